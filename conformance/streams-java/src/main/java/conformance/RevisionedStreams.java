package conformance;

import io.pravega.client.SynchronizerClientFactory;
import io.pravega.client.state.Revision;
import io.pravega.client.state.RevisionedStreamClient;
import io.pravega.client.state.SynchronizerConfig;
import io.pravega.client.stream.TruncatedDataException;
import java.util.ArrayList;
import java.util.List;

/** Writing on the condition that nobody else has written, the mark, and giving up what is old. */
public final class RevisionedStreams {
    public static void main(String[] arguments) throws Exception {
        SynchronizerConfig config = SynchronizerConfig.builder().build();
        try (Lab lab = new Lab(arguments);
                var clients = SynchronizerClientFactory.withScope(lab.scope, lab.config)) {
            lab.stream("revisions", 1);
            try (var one = clients.createRevisionedStreamClient("revisions", Lab.TEXT, config);
                    var other = clients.createRevisionedStreamClient("revisions", Lab.TEXT, config)) {
                conditions(one, other);
                mark(one, other);
                truncation(one);
            }
        }
    }

    private static void conditions(
            RevisionedStreamClient<String> one, RevisionedStreamClient<String> other) {
        Revision start = one.fetchLatestRevision();
        Revision first = one.writeConditionally(start, "a");
        Lab.check(first != null && first.compareTo(start) > 0, "written at the end");
        Lab.same(null, other.writeConditionally(start, "late"), "written where the end was");
        Revision second = other.writeConditionally(first, "b");
        Lab.same(null, one.writeConditionally(first, "late"), "written where the end was");
        one.writeUnconditionally("c");
        Revision end = other.fetchLatestRevision();
        Lab.check(end.compareTo(second) > 0, "written without a condition");
        Lab.same(List.of("a", "b", "c"), read(one, start), "all");
        Lab.same(List.of("b", "c"), read(other, first), "from a revision");
        List<String> between = new ArrayList<>();
        one.readRange(start, second).forEachRemaining(entry -> between.add(entry.getValue()));
        Lab.same(List.of("a", "b"), between, "between revisions");
    }

    private static void mark(
            RevisionedStreamClient<String> one, RevisionedStreamClient<String> other) {
        Revision end = one.fetchLatestRevision();
        Lab.same(null, one.getMark(), "mark");
        Lab.check(one.compareAndSetMark(null, end), "the first sets the mark");
        Lab.check(!other.compareAndSetMark(null, end), "the second does not");
        Lab.same(end, other.getMark(), "mark");
        Lab.check(other.compareAndSetMark(end, null), "the mark is taken away");
        Lab.same(null, one.getMark(), "mark");
    }

    private static void truncation(RevisionedStreamClient<String> client) {
        Revision old = client.fetchOldestRevision();
        Revision end = client.fetchLatestRevision();
        client.writeUnconditionally("d");
        client.truncateToRevision(end);
        Lab.same(end, client.fetchOldestRevision(), "oldest revision");
        boolean refused = false;
        try {
            read(client, old);
        } catch (TruncatedDataException error) {
            refused = true;
        }
        Lab.check(refused, "what was given up is not read");
        Lab.same(List.of("d"), read(client, end), "what is left");
    }

    private static List<String> read(RevisionedStreamClient<String> client, Revision from) {
        List<String> values = new ArrayList<>();
        client.readFrom(from).forEachRemaining(entry -> values.add(entry.getValue()));
        return values;
    }
}
