package conformance;

import io.pravega.client.stream.Stream;
import io.pravega.client.stream.StreamCut;
import java.util.List;

/** Stream cuts: what is between two of them is read, also over a scale and after a truncation. */
public final class Batches {
    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments)) {
            Stream stream = lab.stream("cuts", 2);
            Lab.same(List.of(), lab.read(stream), "events of an empty stream");
            lab.write("cuts", 7, 0, 50);
            StreamCut early = tail(lab);
            lab.write("cuts", 7, 50, 100);
            lab.scale(stream, 3);
            lab.write("cuts", 7, 100, 150);
            StreamCut late = tail(lab);
            lab.write("cuts", 7, 150, 200);

            Lab.ordered(lab.read(stream), 7, 0, 200);
            Lab.ordered(lab.read(stream, StreamCut.UNBOUNDED, early, Lab.TEXT), 7, 0, 50);
            Lab.ordered(lab.read(stream, early, late, Lab.TEXT), 7, 50, 150);
            StreamCut sent = StreamCut.fromBytes(late.toBytes());
            Lab.ordered(lab.read(stream, sent, StreamCut.UNBOUNDED, Lab.TEXT), 7, 150, 200);

            Lab.check(lab.streams.truncateStream(lab.scope, "cuts", early), "truncated");
            Lab.same(early, head(lab), "head");
            Lab.ordered(lab.read(stream), 7, 50, 200);
            Lab.check(lab.streams.truncateStream(lab.scope, "cuts", late), "truncated");
            Lab.same(late, head(lab), "head in another epoch");
            Lab.ordered(lab.read(stream), 7, 150, 200);
        }
    }

    private static StreamCut tail(Lab lab) {
        return lab.streams.fetchStreamInfo(lab.scope, "cuts").join().getTailStreamCut();
    }

    private static StreamCut head(Lab lab) {
        return lab.streams.fetchStreamInfo(lab.scope, "cuts").join().getHeadStreamCut();
    }
}
