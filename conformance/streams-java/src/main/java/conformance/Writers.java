package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.stream.EventStreamWriter;
import io.pravega.client.stream.EventWriterConfig;
import io.pravega.client.stream.Stream;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Writers at once: each event is there once, those of a key in order, those of a batch together. */
public final class Writers {
    private static final int KEYS = 12;
    private static final int EVENTS = 200;

    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments)) {
            for (boolean pooled : new boolean[] {false, true}) {
                Stream stream = lab.stream(pooled ? "pooled" : "alone", 4);
                at_once(lab, stream, pooled);
                Lab.ordered(lab.read(stream), KEYS, 0, EVENTS);
            }
            batch(lab, lab.stream("batch", 2));
        }
    }

    /** Three writers with a third of the keys each. */
    private static void at_once(Lab lab, Stream stream, boolean pooled) throws Exception {
        EventWriterConfig config =
                EventWriterConfig.builder().enableConnectionPooling(pooled).build();
        ExecutorService threads = Executors.newFixedThreadPool(3);
        try (EventStreamClientFactory clients = lab.clients()) {
            List<Future<?>> writing = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                int third = i;
                writing.add(threads.submit(() -> {
                    try (var writer =
                            clients.createEventWriter(stream.getStreamName(), Lab.TEXT, config)) {
                        write(writer, third);
                    }
                    return null;
                }));
            }
            for (Future<?> end : writing) {
                end.get();
            }
        } finally {
            threads.shutdown();
        }
    }

    private static void write(EventStreamWriter<String> writer, int third) {
        List<CompletableFuture<Void>> acknowledged = new ArrayList<>();
        for (int i = 0; i < EVENTS; i++) {
            for (int key = third; key < KEYS; key += 3) {
                acknowledged.add(writer.writeEvent("key" + key, Lab.event(key, i)));
            }
        }
        writer.flush();
        for (CompletableFuture<Void> event : acknowledged) {
            event.join();
        }
    }

    private static void batch(Lab lab, Stream stream) {
        EventWriterConfig config = EventWriterConfig.builder().build();
        List<String> together = List.of("one", "two", "three");
        try (EventStreamClientFactory clients = lab.clients();
                EventStreamWriter<String> writer =
                        clients.createEventWriter(stream.getStreamName(), Lab.TEXT, config)) {
            writer.writeEvent("before").join();
            writer.writeEvents("key", together).join();
        }
        List<String> events = lab.read(stream);
        Lab.same(4, events.size(), "events");
        int first = events.indexOf("one");
        Lab.same(together, events.subList(first, first + 3), "batch");
    }
}
