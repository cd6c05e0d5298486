package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** What the conformance table asks of a function, in Java. */
public class Hello implements RequestHandler<Object, Object> {
    private static final long STARTED = System.nanoTime() + ProcessHandle.current().pid();
    private static int calls = 0;

    @Override
    public Object handleRequest(Object event, Context context) {
        calls++;
        Map<?, ?> asked = event instanceof Map ? (Map<?, ?>) event : Map.of();
        String what = String.valueOf(asked.get("do"));
        switch (what) {
            case "context": return describe(context);
            case "surroundings": return surroundings();
            case "count": return Map.of("calls", calls, "started", STARTED);
            case "wait": return pause(((Number) asked.get("seconds")).doubleValue());
            case "print": System.out.println(asked.get("text")); return null;
            case "raise": throw new IllegalArgumentException("no such order: grün");
            case "unserialisable": return new Loop();
            case "size": return "x".repeat((Integer) asked.get("bytes"));
            case "exit": Runtime.getRuntime().halt((Integer) asked.get("status")); return null;
            case "memory": return fill((Integer) asked.get("mebibytes"));
            default: return event;
        }
    }

    private static Object describe(Context context) {
        Map<String, Object> told = new HashMap<>();
        told.put("requestId", context.getAwsRequestId());
        told.put("functionName", context.getFunctionName());
        told.put("functionVersion", context.getFunctionVersion());
        told.put("arn", context.getInvokedFunctionArn());
        told.put("memory", String.valueOf(context.getMemoryLimitInMB()));
        told.put("logGroup", context.getLogGroupName());
        told.put("logStream", context.getLogStreamName());
        told.put("remaining", context.getRemainingTimeInMillis());
        told.put("custom", context.getClientContext() == null ? null : context.getClientContext().getCustom());
        return told;
    }

    private static Object surroundings() {
        try {
            Path file = Paths.get(System.getenv().getOrDefault("TMPDIR", "/tmp"), "note");
            Files.writeString(file, "kept");
            return Map.of("variables", System.getenv(), "directory", System.getProperty("user.dir"),
                "kept", Files.readString(file), "trace", System.getProperty("com.amazonaws.xray.traceHeader"));
        } catch (java.io.IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
    }

    private static Object pause(double seconds) {
        try {
            Thread.sleep((long) (seconds * 1000));
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
        return Map.of("started", STARTED);
    }

    private static int fill(int mebibytes) {
        List<byte[]> held = new ArrayList<>();
        for (int i = 0; i < mebibytes; i++) {
            byte[] block = new byte[1 << 20];
            java.util.Arrays.fill(block, (byte) 1);
            held.add(block);
        }
        return held.size();
    }

    /** A handler on streams. */
    public void other(InputStream event, OutputStream answer) throws java.io.IOException {
        answer.write("\"other\"".getBytes(StandardCharsets.UTF_8));
    }

    /** Its description never ends. */
    public static class Loop {
        public Loop getSelf() {
            return this;
        }
    }
}
