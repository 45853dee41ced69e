package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.admin.ReaderGroupManager;
import io.pravega.client.stream.Checkpoint;
import io.pravega.client.stream.EventRead;
import io.pravega.client.stream.EventStreamReader;
import io.pravega.client.stream.ReaderConfig;
import io.pravega.client.stream.ReaderGroup;
import io.pravega.client.stream.ReaderGroupConfig;
import io.pravega.client.stream.ReaderGroupNotFoundException;
import io.pravega.client.stream.ReinitializationRequiredException;
import io.pravega.client.stream.Stream;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;

/** Readers of a group share its segments, which change hands at checkpoints; a checkpoint is where all of them were, and where the group can be set back to. */
public final class ReaderGroups {
    private static final int KEYS = 8;

    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments);
                EventStreamClientFactory clients = lab.clients();
                ReaderGroupManager groups = ReaderGroupManager.withScope(lab.scope, lab.config)) {
            Stream stream = lab.stream("shared", 4);
            ReaderGroupConfig config = ReaderGroupConfig.builder().stream(stream)
                    .automaticCheckpointIntervalMillis(1000)
                    .build();
            Lab.check(groups.createReaderGroup("group", config), "the group is new");
            lab.write("shared", KEYS, 0, 50);
            Checkpoint checkpoint;
            try (ReaderGroup group = groups.getReaderGroup("group")) {
                checkpoint = checkpoint(lab, clients, group);
                again(lab, clients, group, checkpoint);
            }
            groups.deleteReaderGroup("group");
            boolean gone = false;
            try (ReaderGroup group = groups.getReaderGroup("group")) {
                group.getOnlineReaders();
            } catch (ReaderGroupNotFoundException error) {
                gone = true;
            }
            Lab.check(gone, "the group is gone");
        }
    }

    /** Two readers have read all of the first part when the checkpoint is made. */
    private static Checkpoint checkpoint(
            Lab lab, EventStreamClientFactory clients, ReaderGroup group) throws Exception {
        List<String> events = new ArrayList<>();
        Checkpoint made;
        try (Pair readers = new Pair(clients)) {
            Lab.waitFor("both have segments", () -> {
                readers.read(events);
                return group.getReaderSegmentDistribution().getReaderSegmentDistribution()
                        .values().stream().filter(segments -> segments > 0).count() == 2;
            });
            Lab.waitFor("the first part", () -> readers.read(events) == KEYS * 50);
            // The client's own threads would wait for each other.
            ScheduledExecutorService waiting = Executors.newSingleThreadScheduledExecutor();
            try {
                CompletableFuture<Checkpoint> pending =
                        group.initiateCheckpoint("middle", waiting);
                Lab.waitFor("the checkpoint", () -> {
                    readers.read(events);
                    return pending.isDone();
                });
                made = pending.get();
            } finally {
                waiting.shutdown();
            }
            Lab.same(2, readers.checkpoints, "readers that have seen the checkpoint");
            lab.write("shared", KEYS, 50, 80);
            Lab.waitFor("the second part", () -> readers.read(events) == KEYS * 80);
            Lab.ordered(events, KEYS, 0, 80);
            Lab.check(group.getMetrics().unreadBytes() > 0, "unread since the checkpoint");
        }
        return made;
    }

    /** The group is set back, and reads the second part again; one of its readers is lost. */
    private static void again(
            Lab lab, EventStreamClientFactory clients, ReaderGroup group, Checkpoint checkpoint)
            throws Exception {
        List<String> events = new ArrayList<>();
        group.resetReaderGroup(ReaderGroupConfig.builder().startFromCheckpoint(checkpoint)
                .automaticCheckpointIntervalMillis(1000).build());
        try (Pair readers = new Pair(clients)) {
            Lab.waitFor("the second part", () -> readers.read(events) == KEYS * 30);
            Lab.ordered(events, KEYS, 50, 80);
            readers.lose();
            group.readerOffline("second", null);
            Lab.same(1, group.getOnlineReaders().size(), "readers");
            lab.write("shared", KEYS, 80, 90);
            // What the lost one had read is read again, since it left no position.
            Lab.waitFor("the third part", () -> {
                readers.read(events);
                return KEYS * 10 <= events.stream()
                        .filter(event -> Integer.parseInt(event.split(" ")[1]) >= 80)
                        .distinct().count();
            });
        }
        boolean refused = false;
        try (Pair readers = new Pair(clients)) {
            group.resetReaderGroup(ReaderGroupConfig.builder().startFromCheckpoint(checkpoint)
                    .automaticCheckpointIntervalMillis(1000).build());
            for (int i = 0; i < 20; i++) {
                readers.read(events);
            }
        } catch (ReinitializationRequiredException error) {
            refused = true;
        }
        Lab.check(refused, "readers of a group that was set back have to be made again");
    }

    /** Two readers, asked in turn. */
    private static final class Pair implements AutoCloseable {
        private final List<EventStreamReader<String>> readers = new ArrayList<>();
        int checkpoints;

        Pair(EventStreamClientFactory clients) {
            for (String name : new String[] {"first", "second"}) {
                ReaderConfig config = ReaderConfig.builder().build();
                readers.add(clients.createReader(name, "group", Lab.TEXT, config));
            }
        }

        /** Adds an event of each, and says how many there are. */
        int read(List<String> events) {
            for (EventStreamReader<String> reader : readers) {
                EventRead<String> read = reader.readNextEvent(100);
                checkpoints += "middle".equals(read.getCheckpointName()) ? 1 : 0;
                if (read.getEvent() != null) {
                    events.add(read.getEvent());
                }
            }
            return events.size();
        }

        /** The second is not asked any more, and not closed either. */
        void lose() {
            readers.remove(1);
        }

        @Override
        public void close() {
            readers.forEach(EventStreamReader::close);
        }
    }
}
