package conformance;

import io.pravega.client.SynchronizerClientFactory;
import io.pravega.client.state.InitialUpdate;
import io.pravega.client.state.Revision;
import io.pravega.client.state.Revisioned;
import io.pravega.client.state.StateSynchronizer;
import io.pravega.client.state.SynchronizerConfig;
import io.pravega.client.state.Update;
import io.pravega.client.stream.impl.JavaSerializer;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Clients change a state at once: no change is lost, none is done twice, also when the log is compacted. */
public final class StateSynchronisers {
    private static final int CLIENTS = 4;
    private static final int CHANGES = 50;

    record Count(String getScopedStreamName, Revision getRevision, long value)
            implements Revisioned {
    }

    record Add(long value) implements Update<Count>, Serializable {
        @Override
        public Count applyTo(Count old, Revision revision) {
            return new Count(old.getScopedStreamName(), revision, old.value + value);
        }
    }

    record Start(long value) implements InitialUpdate<Count>, Serializable {
        @Override
        public Count create(String stream, Revision revision) {
            return new Count(stream, revision, value);
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments);
                var clients = SynchronizerClientFactory.withScope(lab.scope, lab.config)) {
            lab.stream("state", 1);
            List<CompletableFuture<Void>> changing = new ArrayList<>();
            for (int i = 0; i < CLIENTS; i++) {
                changing.add(CompletableFuture.runAsync(() -> change(clients)));
            }
            changing.forEach(CompletableFuture::join);
            try (StateSynchronizer<Count> state = open(clients)) {
                state.fetchUpdates();
                Lab.same((long) CLIENTS * CHANGES, state.getState().value, "count");
            }
        }
    }

    private static StateSynchronizer<Count> open(SynchronizerClientFactory clients) {
        return clients.createStateSynchronizer(
                "state",
                new JavaSerializer<Add>(),
                new JavaSerializer<Start>(),
                SynchronizerConfig.builder().build());
    }

    private static void change(SynchronizerClientFactory clients) {
        try (StateSynchronizer<Count> state = open(clients)) {
            state.initialize(new Start(0));
            for (int i = 1; i <= CHANGES; i++) {
                state.updateState((old, updates) -> {
                    updates.add(new Add(1));
                });
                if (i % 20 == 0) {
                    state.compact(all -> new Start(all.value));
                }
            }
        }
    }
}
