package example;

/** Cannot be loaded. */
public class Broken {
    private static final int TABLE = table();

    private static int table() {
        throw new IllegalStateException("no table is configured");
    }

    public String handleRequest(Object event) {
        return "never";
    }
}
