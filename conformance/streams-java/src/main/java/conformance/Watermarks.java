package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.admin.ReaderGroupManager;
import io.pravega.client.stream.EventStreamReader;
import io.pravega.client.stream.EventStreamWriter;
import io.pravega.client.stream.EventWriterConfig;
import io.pravega.client.stream.ReaderConfig;
import io.pravega.client.stream.ReaderGroupConfig;
import io.pravega.client.stream.Stream;
import io.pravega.client.stream.TimeWindow;

/** A reader learns between which times of its writer it is. */
public final class Watermarks {
    public static void main(String[] arguments) throws Exception {
        EventWriterConfig usual = EventWriterConfig.builder().build();
        try (Lab lab = new Lab(arguments);
                EventStreamClientFactory clients = lab.clients();
                ReaderGroupManager groups = ReaderGroupManager.withScope(lab.scope, lab.config)) {
            Stream stream = lab.stream("timed", 1);
            ReaderGroupConfig config = ReaderGroupConfig.builder().stream(stream).build();
            Lab.check(groups.createReaderGroup("group", config), "the group is new");
            try (EventStreamWriter<String> writer =
                            clients.createEventWriter("writer", "timed", Lab.TEXT, usual);
                    EventStreamReader<String> reader = clients.createReader(
                            "reader", "group", Lab.TEXT, ReaderConfig.builder().build())) {
                long[] time = {1000};
                long deadline = System.nanoTime() + 60_000_000_000L;
                TimeWindow window = reader.getCurrentTimeWindow(stream);
                while (window.getLowerTimeBound() == null) {
                    Lab.check(System.nanoTime() < deadline, "a lower bound within 60 s");
                    writer.writeEvent("key", "event").join();
                    writer.noteTime(time[0]++);
                    reader.readNextEvent(200);
                    window = reader.getCurrentTimeWindow(stream);
                }
                Lab.check(window.getLowerTimeBound() >= 1000, "not before the first time");
                Lab.check(window.getLowerTimeBound() <= time[0], "not behind the last time");
            }
        }
    }
}
