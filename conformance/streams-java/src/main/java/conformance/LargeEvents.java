package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.stream.EventStreamWriter;
import io.pravega.client.stream.EventWriterConfig;
import io.pravega.client.stream.Stream;
import io.pravega.client.stream.StreamCut;
import io.pravega.client.stream.impl.ByteArraySerializer;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** Events of more than the eight mebibytes that fit a frame, between small ones: in order, and with the bytes that were written. */
public final class LargeEvents {
    private static final int MIB = 1 << 20;

    public static void main(String[] arguments) throws Exception {
        EventWriterConfig config = EventWriterConfig.builder().enableLargeEvents(true).build();
        int[] sizes = {10, 9 * MIB, 10, 8 * MIB - 8, 8 * MIB, 24 * MIB, 10};
        try (Lab lab = new Lab(arguments); EventStreamClientFactory clients = lab.clients()) {
            Stream stream = lab.stream("large", 2);
            try (EventStreamWriter<byte[]> writer =
                    clients.createEventWriter("large", new ByteArraySerializer(), config)) {
                for (int i = 0; i < sizes.length; i++) {
                    writer.writeEvent("key", bytes(i, sizes[i])).join();
                }
            }
            List<byte[]> events = lab.read(
                    stream, StreamCut.UNBOUNDED, StreamCut.UNBOUNDED, new ByteArraySerializer());
            Lab.same(sizes.length, events.size(), "events");
            for (int i = 0; i < sizes.length; i++) {
                Lab.same(sizes[i], events.get(i).length, "bytes of event " + i);
                Lab.check(Arrays.equals(bytes(i, sizes[i]), events.get(i)), "bytes of event " + i);
            }
        }
    }

    private static byte[] bytes(long seed, int size) {
        byte[] bytes = new byte[size];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }
}
