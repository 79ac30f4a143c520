// Servers in Java that return how they read a request: `java Server READER PORT`.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.springframework.http.server.PathContainer;
import org.springframework.http.server.RequestPath;

public final class Server {
    public static void main(String[] arguments) throws Exception {
        String reader = arguments[0];
        int port = Integer.parseInt(arguments[1]);
        if (reader.equals("jdk")) {
            jdk(port);
        } else {
            tomcat(port, reader.equals("spring"));
        }
    }

    /** The server of the JDK. */
    private static void jdk(int port) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", exchange -> {
            List<String> names = new ArrayList<>();
            exchange.getRequestHeaders().forEach((name, values) -> {
                if (values.equals(List.of("v"))) {
                    names.add(name.toLowerCase(Locale.ROOT));
                }
            });
            String host = withoutPort(exchange.getRequestHeaders().getFirst("Host"));
            String path = quoted(exchange.getRequestURI().getPath());
            exchange.getResponseHeaders().set("x-reading", reading(exchange.getRequestMethod(), host, path, names));
            exchange.sendResponseHeaders(200, -1);
            exchange.close();
        });
        server.start();
    }

    /** Tomcat with defaults: the path that selects a servlet, or with Spring that of its patterns. */
    private static void tomcat(int port, boolean spring) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        tomcat.setPort(port);
        tomcat.setHostname("localhost");
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.setSilent(true);
        Context context = tomcat.addContext("", null);
        Tomcat.addServlet(context, "reader", new HttpServlet() {
            @Override
            protected void service(HttpServletRequest request, HttpServletResponse response) {
                List<String> names = new ArrayList<>();
                for (String name : Collections.list(request.getHeaderNames())) {
                    if ("v".equals(request.getHeader(name))) {
                        names.add(name.toLowerCase(Locale.ROOT));
                    }
                }
                String path = spring ? segments(request.getRequestURI()) : quoted(request.getServletPath());
                response.setHeader("x-reading", reading(request.getMethod(), request.getServerName(), path, names));
            }
        });
        context.addServletMappingDecoded("/", "reader");
        tomcat.start();
        tomcat.getServer().await();
    }

    /** The path that Spring's patterns match, segment by segment. */
    private static String segments(String uri) {
        StringBuilder path = new StringBuilder();
        for (PathContainer.Element element : RequestPath.parse(uri, "").pathWithinApplication().elements()) {
            path.append(element instanceof PathContainer.PathSegment segment ? segment.valueToMatch() : "/");
        }
        return quoted(path.toString());
    }

    /** The common idiom that removes a port. */
    private static String withoutPort(String host) {
        int colon = host.indexOf(':', host.startsWith("[") ? host.indexOf(']') + 1 : 0);
        return colon < 0 ? host : host.substring(0, colon);
    }

    private static String reading(String method, String host, String path, List<String> names) {
        Collections.sort(names);
        List<String> all = names.stream().map(Server::quoted).toList();
        return "{\"method\": " + quoted(method) + ", \"host\": " + quoted(host) + ", \"path\": " + path
                + ", \"names\": [" + String.join(", ", all) + "]}";
    }

    private static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
