package shop;

import com.amazonaws.services.lambda.runtime.Context;
import java.io.File;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.security.Security;
import java.time.ZoneId;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** What a handler can find out about its process, for the comparison of test_prestart_java.py. */
public class Finds {
    private static final String STACK = stack();
    private static final Map<String, String> PROPERTIES = properties();

    public Object handle(Map<String, String> asked, Context context) throws Exception {
        switch (asked.get("do")) {
            case "find": return find(context);
            case "draw": return draw();
            case "kernel":
                return Map.of("cmdline", kernel("cmdline"), "environ", new TreeSet<>(kernel("environ")));
            case "fail": throw new IllegalArgumentException("as it was asked to");
            case "load": return load(asked.get("library"));
            case "resource":
                return new String(Finds.class.getResourceAsStream(asked.get("name")).readAllBytes());
            case "class": return Class.forName(asked.get("name")).getClassLoader().getClass().getName();
            case "start": return start();
            default: return null;
        }
    }

    private static Object find(Context context) throws Exception {
        Thread thread = Thread.currentThread();
        var machine = ManagementFactory.getRuntimeMXBean();
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("environment", new TreeMap<>(System.getenv()));
        found.put("subprocess", printed("env").lines().sorted().collect(Collectors.joining("\n")));
        // Whether somebody has asked before is a property, too.
        found.put("time zone", List.of(TimeZone.getDefault().getID(), ZoneId.systemDefault().getId()));
        found.put("properties at start", PROPERTIES);
        found.put("properties", properties());
        found.put("options", machine.getInputArguments());
        found.put("class path", machine.getClassPath());
        found.put("library path", machine.getLibraryPath());
        found.put("specification", machine.getSpecVersion() + machine.getVmVersion());
        found.put("security", Stream.of("jdk.tls.disabledAlgorithms", "networkaddress.cache.negative.ttl",
            "networkaddress.cache.ttl").map(Security::getProperty).collect(Collectors.toList()));
        found.put("providers", Arrays.toString(Security.getProviders()));
        found.put("modules", new TreeSet<>(ModuleLayer.boot().modules().stream().map(Module::getName)
            .collect(Collectors.toList())));
        Module base = ModuleLayer.boot().findModule("java.base").get();
        found.put("opened", base.isOpen("java.lang", Finds.class.getModule()));
        found.put("directory", List.of(new File(".").getCanonicalPath(), link("cwd")));
        found.put("executable", link("exe"));
        found.put("command", ProcessHandle.current().info().command().get());
        found.put("input", List.of(System.in.getClass().getName(), System.in.available(), System.in.read()));
        found.put("console", System.console() == null);
        found.put("streams", List.of(System.out.getClass().getName(), System.err.getClass().getName()));
        found.put("locale", Locale.getDefault() + " " + Locale.getDefault(Locale.Category.FORMAT));
        found.put("charset", Charset.defaultCharset().name());
        found.put("threads", new TreeSet<>(Thread.getAllStackTraces().keySet().stream()
            .map(one -> one.getName() + one.isDaemon() + one.getPriority()).collect(Collectors.toList())));
        found.put("thread", List.of(thread.getName(), thread.getId(), thread.getPriority(), thread.isDaemon(),
            thread.getThreadGroup().getName(), loaders(thread.getContextClassLoader())));
        found.put("loaders", loaders(Finds.class.getClassLoader()));
        found.put("stack at start", STACK);
        found.put("stack", stack());
        
        found.put("collectors", ManagementFactory.getGarbageCollectorMXBeans().stream()
            .map(one -> one.getName()).collect(Collectors.toList()));
        found.put("heap", ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getMax());
        found.put("processors", Runtime.getRuntime().availableProcessors());
        found.put("context", List.of(context.getFunctionName(), context.getMemoryLimitInMB(),
            context.getLogGroupName(), context.getLogStreamName()));
        found.put("descriptors", descriptors());
        found.put("status", status("SigBlk", "SigIgn", "SigCgt", "ShdPnd", "Umask", "CapEff", "NoNewPrivs",
            "Seccomp", "Uid", "Gid", "Groups", "Cpus_allowed_list"));
        found.put("limits", Files.readString(Path.of("/proc/self/limits")));
        found.put("name", Files.readString(Path.of("/proc/self/comm")));
        return found;
    }

    /** What Java makes of variables, and the variables. */
    private static Object start() {
        Map<String, String> variables = new TreeMap<>(System.getenv());
        variables.remove("AWS_LAMBDA_RUNTIME_API");
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("variables", variables);
        found.put("time zone", TimeZone.getDefault().getID());
        found.put("properties", properties());
        found.put("heap", Runtime.getRuntime().maxMemory());
        found.put("security", Security.getProperty("networkaddress.cache.negative.ttl"));
        return found;
    }

    private static Map<String, String> properties() {
        Map<String, String> all = new TreeMap<>();
        System.getProperties().forEach((name, value) -> all.put(name.toString(), value.toString()));
        return all;
    }

    private static String stack() {
        Stream<StackTraceElement> frames = Arrays.stream(new Throwable().getStackTrace());
        return frames.map(Object::toString).collect(Collectors.joining("\n"));
    }

    private static List<String> loaders(ClassLoader loader) {
        List<String> names = new ArrayList<>();
        for (; loader != null; loader = loader.getParent()) {
            names.add(loader.getClass().getName());
        }
        return names;
    }

    private static String printed(String program) throws IOException {
        return new String(new ProcessBuilder(program).start().getInputStream().readAllBytes());
    }

    private static String link(String name) throws IOException {
        return Files.readSymbolicLink(Path.of("/proc/self", name)).toString();
    }

    private static Object descriptors() throws IOException {
        List<String> all = new ArrayList<>();
        for (File file : new File("/proc/self/fd").listFiles()) {
            try {
                String target = Files.readSymbolicLink(file.toPath()).toString().split("\\[")[0];
                // Of the others only the order of jars differs, which has no meaning.
                all.add(List.of("0", "1", "2").contains(file.getName()) ? file.getName() + target : target);
            } catch (NoSuchFileException gone) {
                continue; // the one that lists them
            }
        }
        Collections.sort(all);
        return all;
    }

    private static List<String> status(String... names) throws IOException {
        return Files.readAllLines(Path.of("/proc/self/status")).stream()
            .filter(line -> List.of(names).contains(line.split(":")[0])).collect(Collectors.toList());
    }

    private static Object draw() {
        return Map.of("random", Math.random(), "uuid", UUID.randomUUID().toString(),
            "secure", new SecureRandom().nextLong(), "split", new SplittableRandom().nextLong(),
            "process", ProcessHandle.current().pid());
    }

    private static List<String> kernel(String name) throws IOException {
        return Arrays.asList(Files.readString(Path.of("/proc/self", name)).split("\0"));
    }

    private static String load(String library) throws IOException {
        System.loadLibrary(library);
        String file = "lib" + library + ".so";
        return Files.readAllLines(Path.of("/proc/self/maps")).stream().filter(line -> line.endsWith(file))
            .map(line -> line.substring(line.indexOf('/'))).findFirst().get();
    }
}
