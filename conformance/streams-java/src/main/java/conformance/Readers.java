package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.admin.ReaderGroupManager;
import io.pravega.client.stream.EventPointer;
import io.pravega.client.stream.EventRead;
import io.pravega.client.stream.EventStreamReader;
import io.pravega.client.stream.ReaderConfig;
import io.pravega.client.stream.ReaderGroupConfig;
import io.pravega.client.stream.Stream;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** One reader of a group: all events in order, also those that it waits for and those behind a scale; the next one goes on where it ended. */
public final class Readers {
    private static final int KEYS = 5;

    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments);
                EventStreamClientFactory clients = lab.clients();
                ReaderGroupManager groups = ReaderGroupManager.withScope(lab.scope, lab.config)) {
            Stream stream = lab.stream("read", 2);
            // What is behind a scale is read after a checkpoint only.
            ReaderGroupConfig config = ReaderGroupConfig.builder().stream(stream)
                    .automaticCheckpointIntervalMillis(1000)
                    .build();
            Lab.check(groups.createReaderGroup("group", config), "the group is new");
            lab.write("read", KEYS, 0, 40);
            List<String> events = new ArrayList<>();
            try (EventStreamReader<String> reader = open(clients, "first")) {
                EventPointer pointer = read(reader, events, 100);
                Lab.same(events.get(99), reader.fetchEvent(pointer), "event of a pointer");
                Lab.same(
                        events.get(99),
                        lab.streams.fetchEvent(pointer, Lab.TEXT).join(),
                        "event of a pointer");
            }
            try (EventStreamReader<String> reader = open(clients, "second")) {
                read(reader, events, KEYS * 40 - 100);
                Lab.ordered(events, KEYS, 0, 40);
                var writing = CompletableFuture.runAsync(() -> lab.write("read", KEYS, 40, 60));
                read(reader, events, KEYS * 20);
                writing.join();
                lab.scale(stream, 3);
                lab.write("read", KEYS, 60, 80);
                read(reader, events, KEYS * 20);
                Lab.ordered(events, KEYS, 0, 80);
                Lab.check(lab.streams.sealStream(lab.scope, "read"), "sealed");
                Lab.waitFor("the end of the stream", () -> {
                    EventRead<String> end = reader.readNextEvent(500);
                    Lab.same(null, end.getEvent(), "event behind the last");
                    return end.isReadCompleted();
                });
            }
            groups.deleteReaderGroup("group");
            ReaderGroupConfig quiet =
                    ReaderGroupConfig.builder().stream(stream).disableAutomaticCheckpoints().build();
            Lab.check(groups.createReaderGroup("quiet", quiet), "a group without checkpoints");
        }
    }

    private static EventStreamReader<String> open(EventStreamClientFactory clients, String name) {
        return clients.createReader(name, "group", Lab.TEXT, ReaderConfig.builder().build());
    }

    private static EventPointer read(
            EventStreamReader<String> reader, List<String> events, int number) throws Exception {
        List<EventPointer> pointers = new ArrayList<>();
        Lab.waitFor(number + " events", () -> {
            EventRead<String> read = reader.readNextEvent(1000);
            if (read.getEvent() != null) {
                events.add(read.getEvent());
                pointers.add(read.getEventPointer());
            }
            return pointers.size() == number;
        });
        return pointers.get(number - 1);
    }
}
