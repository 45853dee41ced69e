package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.stream.EventStreamWriter;
import io.pravega.client.stream.EventWriterConfig;
import io.pravega.client.stream.RetentionPolicy;
import io.pravega.client.stream.ScalingPolicy;
import io.pravega.client.stream.Stream;
import io.pravega.client.stream.StreamConfiguration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** Scopes and streams are made, listed, found by tag, changed, sealed and deleted. */
public final class Streams {
    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments)) {
            Lab.check(!lab.streams.createScope(lab.scope), "a scope is made once");
            Lab.check(lab.streams.checkScopeExists(lab.scope), "the scope is there");
            List<String> scopes = new ArrayList<>();
            lab.streams.listScopes().forEachRemaining(scopes::add);
            Lab.check(scopes.contains(lab.scope), "the scope is listed");
            configuration(lab);
            listing(lab);
            sealed(lab);
            Lab.check(lab.streams.deleteScopeRecursive(lab.scope), "all is deleted");
            Lab.check(!lab.streams.checkScopeExists(lab.scope), "the scope is gone");
        }
    }

    private static void configuration(Lab lab) {
        StreamConfiguration first = StreamConfiguration.builder()
                .scalingPolicy(ScalingPolicy.byEventRate(100, 2, 3))
                .retentionPolicy(RetentionPolicy.bySizeBytes(1 << 20, 1 << 22))
                .tag("red")
                .build();
        Lab.check(lab.streams.createStream(lab.scope, "set", first), "the stream is new");
        Lab.check(!lab.streams.createStream(lab.scope, "set", first), "a stream is made once");
        var info = lab.streams.fetchStreamInfo(lab.scope, "set").join();
        Lab.same(first, info.getStreamConfiguration(), "configuration");
        StreamConfiguration second = first.toBuilder().clearTags().tag("blue").build();
        Lab.check(lab.streams.updateStream(lab.scope, "set", second), "the stream is changed");
        info = lab.streams.fetchStreamInfo(lab.scope, "set").join();
        Lab.same(second, info.getStreamConfiguration(), "configuration");
        Lab.same(Set.of("blue"), Set.copyOf(lab.streams.getStreamTags(lab.scope, "set")), "tags");
    }

    private static void listing(Lab lab) {
        Set<String> wanted = new HashSet<>(Set.of("set"));
        for (int i = 0; i < 20; i++) {
            lab.stream("listed" + i, 1);
            wanted.add("listed" + i);
        }
        List<String> found = new ArrayList<>();
        lab.streams.listStreams(lab.scope).forEachRemaining(stream -> {
            if (!stream.getStreamName().startsWith("_")) {
                found.add(stream.getStreamName());
            }
        });
        Lab.same(wanted.size(), found.size(), "streams");
        Lab.same(wanted, Set.copyOf(found), "streams");
        List<Stream> blue = new ArrayList<>();
        lab.streams.listStreams(lab.scope, "blue").forEachRemaining(blue::add);
        Lab.same(List.of(Stream.of(lab.scope, "set")), blue, "streams of a tag");
        blue.clear();
        lab.streams.listStreams(lab.scope, "red").forEachRemaining(blue::add);
        Lab.same(List.of(), blue, "streams of a tag that was taken away");
    }

    private static void sealed(Lab lab) {
        Stream stream = lab.stream("sealed", 2);
        lab.write("sealed", 3, 0, 10);
        Lab.check(lab.streams.sealStream(lab.scope, "sealed"), "sealed");
        Lab.check(lab.streams.fetchStreamInfo(lab.scope, "sealed").join().isSealed(), "it says so");
        EventWriterConfig config = EventWriterConfig.builder().build();
        boolean refused = false;
        try (EventStreamClientFactory clients = lab.clients();
                EventStreamWriter<String> writer =
                        clients.createEventWriter("sealed", Lab.TEXT, config)) {
            writer.writeEvent("key0", "late").join();
        } catch (Exception error) {
            refused = true;
        }
        Lab.check(refused, "nothing is written to what is sealed");
        Lab.ordered(lab.read(stream), 3, 0, 10);
        Lab.check(lab.streams.deleteStream(lab.scope, "sealed"), "deleted");
        Lab.check(!lab.streams.checkStreamExists(lab.scope, "sealed"), "gone");
        lab.stream("sealed", 2);
        Lab.same(List.of(), lab.read(stream), "events of a stream that was made again");
    }
}
