package conformance;

import io.pravega.client.BatchClientFactory;
import io.pravega.client.ClientConfig;
import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.admin.StreamManager;
import io.pravega.client.batch.SegmentRange;
import io.pravega.client.connection.impl.ConnectionPoolImpl;
import io.pravega.client.connection.impl.SocketConnectionFactoryImpl;
import io.pravega.client.control.impl.ControllerImpl;
import io.pravega.client.control.impl.ControllerImplConfig;
import io.pravega.client.stream.EventStreamWriter;
import io.pravega.client.stream.EventWriterConfig;
import io.pravega.client.stream.ScalingPolicy;
import io.pravega.client.stream.Serializer;
import io.pravega.client.stream.Stream;
import io.pravega.client.stream.StreamConfiguration;
import io.pravega.client.stream.StreamCut;
import io.pravega.client.stream.impl.UTF8StringSerializer;
import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.LockSupport;

/** A scope of a program at the server that it tests, and what all programs do there. */
final class Lab implements AutoCloseable {
    static final Serializer<String> TEXT = new UTF8StringSerializer();

    final ClientConfig config;
    final String scope = "java-" + UUID.randomUUID();
    final StreamManager streams;

    /** The first argument says where the controller is. */
    Lab(String[] arguments) {
        config = ClientConfig.builder().controllerURI(URI.create(arguments[0])).build();
        streams = StreamManager.create(config);
        check(streams.createScope(scope), "the scope is new");
    }

    @Override
    public void close() {
        streams.close();
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError("does not hold: " + what);
        }
    }

    static void same(Object wanted, Object found, String what) {
        if (!Objects.equals(wanted, found)) {
            throw new AssertionError(what + ": " + found + " instead of " + wanted);
        }
    }

    /** Asks again until it holds, for a minute at most. */
    static void waitFor(String what, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (!holds.call()) {
            check(System.nanoTime() < deadline, what + " within 60 s");
            LockSupport.parkNanos(Duration.ofMillis(20).toNanos());
        }
    }

    Stream stream(String name, int segments) {
        ScalingPolicy policy = ScalingPolicy.fixed(segments);
        StreamConfiguration made = StreamConfiguration.builder().scalingPolicy(policy).build();
        check(streams.createStream(scope, name, made), name + " is new");
        return Stream.of(scope, name);
    }

    EventStreamClientFactory clients() {
        return EventStreamClientFactory.withScope(scope, config);
    }

    /** Events {@code first} to {@code end - 1} of each of {@code keys} keys, durable when this returns. */
    void write(String stream, int keys, int first, int end) {
        EventWriterConfig usual = EventWriterConfig.builder().build();
        try (EventStreamClientFactory clients = clients();
                EventStreamWriter<String> writer =
                        clients.createEventWriter(stream, TEXT, usual)) {
            for (int i = first; i < end; i++) {
                for (int key = 0; key < keys; key++) {
                    writer.writeEvent("key" + key, event(key, i));
                }
            }
            writer.flush();
        }
    }

    static String event(int key, int number) {
        return "key" + key + " " + number;
    }

    /** All events between two cuts, older segments first: those of a key are in order. */
    <T> List<T> read(Stream stream, StreamCut from, StreamCut to, Serializer<T> serializer) {
        List<T> events = new ArrayList<>();
        try (BatchClientFactory batch = BatchClientFactory.withScope(scope, config)) {
            List<SegmentRange> ranges = new ArrayList<>();
            batch.getSegments(stream, from, to).getIterator().forEachRemaining(ranges::add);
            ranges.sort(Comparator.comparingLong(SegmentRange::getSegmentId));
            for (SegmentRange range : ranges) {
                try (var segment = batch.readSegment(range, serializer)) {
                    segment.forEachRemaining(events::add);
                }
            }
        }
        return events;
    }

    List<String> read(Stream stream) {
        return read(stream, StreamCut.UNBOUNDED, StreamCut.UNBOUNDED, TEXT);
    }

    /** Each key has all of its events from {@code first} to {@code end - 1}, each once, in order. */
    static void ordered(List<String> events, int keys, int first, int end) {
        same(keys * (end - first), events.size(), "events");
        Map<String, Integer> next = new HashMap<>();
        for (String event : events) {
            String[] parts = event.split(" ");
            int wanted = next.getOrDefault(parts[0], first);
            same(wanted, Integer.parseInt(parts[1]), "next event of " + parts[0]);
            next.put(parts[0], wanted + 1);
        }
        same(keys, next.size(), "keys");
    }

    /** What only the controller's own client can be asked. */
    interface Asking<T> {
        T ask(ControllerImpl controller, ConnectionPoolImpl pool) throws Exception;
    }

    <T> T controller(Asking<T> question) throws Exception {
        ControllerImplConfig asked = ControllerImplConfig.builder().clientConfig(config).build();
        try (var sockets = new SocketConnectionFactoryImpl(config);
                var pool = new ConnectionPoolImpl(config, sockets);
                var controller = new ControllerImpl(asked, sockets.getInternalExecutor())) {
            return question.ask(controller, pool);
        }
    }

    /** Divides all keys into equal parts. */
    void scale(Stream stream, int segments) throws Exception {
        boolean scaled = controller((controller, pool) -> {
            var old = controller.getCurrentSegments(scope, stream.getStreamName()).get();
            List<Long> ids = new ArrayList<>();
            old.getSegments().forEach(segment -> ids.add(segment.getSegmentId()));
            Map<Double, Double> ranges = new HashMap<>();
            for (int i = 0; i < segments; i++) {
                ranges.put((double) i / segments, (i + 1.0) / segments);
            }
            var executor = pool.getInternalExecutor();
            return controller.scaleStream(stream, ids, ranges, executor).getFuture().get();
        });
        check(scaled, "the stream is scaled");
    }
}
