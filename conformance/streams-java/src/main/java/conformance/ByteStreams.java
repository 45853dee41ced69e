package conformance;

import io.pravega.client.ByteStreamClientFactory;
import io.pravega.client.byteStream.ByteStreamReader;
import io.pravega.client.byteStream.ByteStreamWriter;
import java.io.IOException;
import java.util.Arrays;
import java.util.Random;

/** Bytes without events: written by one after the other, read from anywhere, given up at the front, sealed. */
public final class ByteStreams {
    private static final int SIZE = 3 << 20;

    public static void main(String[] arguments) throws Exception {
        byte[] bytes = new byte[SIZE];
        new Random(7).nextBytes(bytes);
        int half = SIZE / 2 + 13;
        try (Lab lab = new Lab(arguments);
                var clients = ByteStreamClientFactory.withScope(lab.scope, lab.config)) {
            lab.stream("bytes", 1);
            try (ByteStreamWriter writer = clients.createByteStreamWriter("bytes")) {
                writer.write(bytes, 0, half);
                writer.flush();
                Lab.same((long) half, writer.fetchTailOffset(), "tail");
            }
            try (ByteStreamReader reader = clients.createByteStreamReader("bytes")) {
                Lab.check(Arrays.equals(bytes, 0, half, read(reader, half), 0, half), "half");
                try (ByteStreamWriter writer = clients.createByteStreamWriter("bytes")) {
                    writer.write(bytes, half, SIZE - half);
                    writer.flush();
                    byte[] rest = read(reader, SIZE - half);
                    Lab.check(Arrays.equals(bytes, half, SIZE, rest, 0, rest.length), "rest");
                    reader.seekToOffset(1000);
                    byte[] some = read(reader, 50);
                    Lab.check(Arrays.equals(bytes, 1000, 1050, some, 0, 50), "from within");

                    writer.truncateDataBefore(half);
                    Lab.same((long) half, reader.fetchHeadOffset(), "head");
                    Lab.same((long) SIZE, reader.fetchTailOffset(), "tail");
                    writer.closeAndSeal();
                }
                reader.seekToOffset(half);
                byte[] all = reader.readAllBytes();
                Lab.check(Arrays.equals(bytes, half, SIZE, all, 0, all.length), "to the end");
                Lab.same(-1, reader.read(), "what is behind the end");
            }
        }
    }

    /** Asks for no more than that: the client waits for more to come even if it is asked for nothing. */
    private static byte[] read(ByteStreamReader reader, int size) throws IOException {
        byte[] bytes = new byte[size];
        Lab.same(size, reader.readNBytes(bytes, 0, size), "bytes");
        return bytes;
    }
}
