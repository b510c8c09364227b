// The JDK's own HTTP server.
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.security.SecureRandom;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;

public class Server {
  public static void main(String[] arguments) throws Exception {
    String token = Long.toHexString(new SecureRandom().nextLong());
    AtomicLong count = new AtomicLong();
    HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", 8000), 0);
    server.setExecutor(Executors.newFixedThreadPool(4));
    server.createContext("/", exchange -> {
      byte[] body = String.format("{\"token\": \"%s\", \"count\": %d, \"pid\": %d, \"answer\": %d}", token,
          count.incrementAndGet(), ProcessHandle.current().pid(), 6 * 7).getBytes();
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      server.stop(1);
      System.out.println("ended in order");
    }));
    server.start();
  }
}
