import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import com.amazonaws.services.lambda.runtime.api.client.EventHandlerLoader;
import com.amazonaws.services.lambda.runtime.api.client.HandlerInfo;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/**
 * archive.sh runs the client against this program while Java records the classes. It is a Runtime API that sends a
 * few events, and a handler that uses the client as functions do. The API prints its address, and ends with the last
 * event.
 */
public class Rehearsal {
    private static final int EVENTS = 4;
    private static final String EVENT =
        "{\"id\": 7, \"name\": \"gr\u00fcn\", \"paid\": true, \"tags\": {\"a\": \"b\"},"
            + " \"lines\": [{\"sku\": \"x\", \"price\": 1.5}], \"note\": null}";

    private static int asked = 0;

    public static void main(String[] arguments) throws IOException {
        HttpServer api = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        api.createContext("/", call -> {
            call.getRequestBody().readAllBytes();
            if (!call.getRequestURI().getPath().endsWith("/next")) {
                answer(call, 202, "{\"status\":\"OK\"}");
                return;
            }
            asked++;
            Headers headers = call.getResponseHeaders();
            headers.set("Lambda-Runtime-Aws-Request-Id", String.valueOf(asked));
            headers.set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:none:0:function:none");
            headers.set("Lambda-Runtime-Deadline-Ms", String.valueOf(Long.MAX_VALUE));
            answer(call, 200, EVENT);
            if (asked == EVENTS) {
                api.stop(0);
            }
        });
        api.start();
        System.out.println("127.0.0.1:" + api.getAddress().getPort());
    }

    private static void answer(HttpExchange call, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        call.getResponseHeaders().set("Content-Type", "application/json");
        call.sendResponseHeaders(status, body.length);
        call.getResponseBody().write(body);
        call.close();
    }

    /** Answers, fails once, and ends the process, because Java writes the archive when it exits. */
    public static class Handler implements RequestHandler<Order, Map<String, Order>> {
        private static int calls = 0;

        @Override
        public Map<String, Order> handleRequest(Order order, Context context) {
            calls++;
            context.getLogger().log(context.getAwsRequestId() + " " + context.getRemainingTimeInMillis());
            if (calls == 2) {
                load("Rehearsal$Streams");
                load("Rehearsal$Method::call");
            }
            if (calls == 3) {
                throw new IllegalStateException("a failure");
            }
            if (calls == EVENTS) {
                System.exit(0);
            }
            return Map.of("order", order);
        }

        /** Loads the other kinds of handlers. */
        private static void load(String handler) {
            try {
                ClassLoader loader = Handler.class.getClassLoader();
                EventHandlerLoader.loadEventHandler(HandlerInfo.fromString(handler, loader));
            } catch (ClassNotFoundException error) {
                throw new IllegalStateException(error);
            }
        }
    }

    public static class Streams implements RequestStreamHandler {
        @Override
        public void handleRequest(InputStream event, OutputStream answer, Context context)
                throws IOException {
            event.transferTo(answer);
        }
    }

    public static class Method {
        public String call(Map<String, Object> event) {
            return event.toString();
        }
    }

    public static class Order {
        public int id;
        public String name;
        public boolean paid;
        public Map<String, String> tags;
        public List<Line> lines;
        public Object note;
    }

    public static class Line {
        private String sku;
        private double price;

        public String getSku() {
            return sku;
        }

        public void setSku(String sku) {
            this.sku = sku;
        }

        public double getPrice() {
            return price;
        }

        public void setPrice(double price) {
            this.price = price;
        }
    }
}
