package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.stream.EventStreamWriter;
import io.pravega.client.stream.EventWriterConfig;
import io.pravega.client.stream.Stream;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** A writer goes on while its stream is divided and joined: each event once, those of a key in order. */
public final class Scaling {
    private static final int KEYS = 10;
    private static final int EVENTS = 400;

    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments)) {
            Stream stream = lab.stream("scaled", 1);
            CompletableFuture<Void> half = new CompletableFuture<>();
            CompletableFuture<Void> writing = CompletableFuture.runAsync(() -> write(lab, half));
            half.join();
            lab.scale(stream, 3);
            lab.scale(stream, 1);
            lab.scale(stream, 4);
            writing.join();
            Lab.ordered(lab.read(stream), KEYS, 0, EVENTS);
            int segments = lab.controller((controller, pool) ->
                    controller.getCurrentSegments(lab.scope, "scaled").get().getNumberOfSegments());
            Lab.same(4, segments, "segments");
        }
    }

    private static void write(Lab lab, CompletableFuture<Void> half) {
        EventWriterConfig config = EventWriterConfig.builder().build();
        List<CompletableFuture<Void>> acknowledged = new ArrayList<>();
        try (EventStreamClientFactory clients = lab.clients();
                EventStreamWriter<String> writer =
                        clients.createEventWriter("scaled", Lab.TEXT, config)) {
            for (int i = 0; i < EVENTS; i++) {
                for (int key = 0; key < KEYS; key++) {
                    acknowledged.add(writer.writeEvent("key" + key, Lab.event(key, i)));
                }
                if (i == EVENTS / 2) {
                    half.complete(null);
                }
            }
            writer.flush();
        } finally {
            half.complete(null);
        }
        acknowledged.forEach(CompletableFuture::join);
    }
}
