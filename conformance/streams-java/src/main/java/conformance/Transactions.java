package conformance;

import io.pravega.client.EventStreamClientFactory;
import io.pravega.client.stream.EventWriterConfig;
import io.pravega.client.stream.Stream;
import io.pravega.client.stream.Transaction;
import io.pravega.client.stream.TransactionalEventStreamWriter;
import io.pravega.client.stream.TxnFailedException;
import java.util.ArrayList;
import java.util.List;

/** All events of a transaction are there when it is committed, none before or without; also over a scale. */
public final class Transactions {
    public static void main(String[] arguments) throws Exception {
        EventWriterConfig config = EventWriterConfig.builder().build();
        try (Lab lab = new Lab(arguments); EventStreamClientFactory clients = lab.clients()) {
            Stream stream = lab.stream("transactions", 2);
            try (TransactionalEventStreamWriter<String> writer =
                    clients.createTransactionalEventWriter("transactions", Lab.TEXT, config)) {
                committed(lab, stream, writer);
                aborted(lab, stream, writer);
                ordered(lab, stream, writer);
                scaled(lab, stream, writer);
            }
            Lab.check(
                    !lab.streams.listCompletedTransactions(stream).isEmpty(),
                    "transactions that have ended are listed");
        }
    }

    private static void committed(
            Lab lab, Stream stream, TransactionalEventStreamWriter<String> writer)
            throws Exception {
        Transaction<String> begun = writer.beginTxn();
        Lab.same(Transaction.Status.OPEN, begun.checkStatus(), "status");
        fill(begun, 5, 0, 50);
        begun.flush();
        Lab.same(List.of(), lab.read(stream), "events of an open transaction");
        begun.commit();
        ended(begun, Transaction.Status.COMMITTED);
        Lab.ordered(lab.read(stream), 5, 0, 50);
    }

    private static void aborted(
            Lab lab, Stream stream, TransactionalEventStreamWriter<String> writer)
            throws Exception {
        Transaction<String> begun = writer.beginTxn();
        fill(begun, 5, 50, 60);
        begun.abort();
        ended(begun, Transaction.Status.ABORTED);
        Lab.ordered(lab.read(stream), 5, 0, 50);
        boolean refused = false;
        try {
            begun.writeEvent("key0", "late");
        } catch (TxnFailedException error) {
            refused = true;
        }
        Lab.check(refused, "nothing is written to what is aborted");
    }

    /** Two that are open at once, the second committed first, and from its id. */
    private static void ordered(
            Lab lab, Stream stream, TransactionalEventStreamWriter<String> writer)
            throws Exception {
        Transaction<String> first = writer.beginTxn();
        Transaction<String> second = writer.beginTxn();
        fill(first, 5, 100, 150);
        fill(second, 5, 50, 100);
        second.flush();
        Transaction<String> found = writer.getTxn(second.getTxnId());
        found.commit();
        first.commit();
        ended(second, Transaction.Status.COMMITTED);
        ended(first, Transaction.Status.COMMITTED);
        Lab.ordered(lab.read(stream), 5, 0, 150);
    }

    private static void scaled(
            Lab lab, Stream stream, TransactionalEventStreamWriter<String> writer)
            throws Exception {
        List<Transaction<String>> begun = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            begun.add(writer.beginTxn());
            fill(begun.get(i), 5, 150 + 20 * i, 160 + 20 * i);
        }
        lab.scale(stream, 3);
        for (int i = 0; i < 3; i++) {
            fill(begun.get(i), 5, 160 + 20 * i, 170 + 20 * i);
            begun.get(i).commit();
        }
        for (Transaction<String> transaction : begun) {
            ended(transaction, Transaction.Status.COMMITTED);
        }
        lab.write("transactions", 5, 210, 220);
        Lab.ordered(lab.read(stream), 5, 0, 220);
    }

    private static void fill(Transaction<String> begun, int keys, int first, int end)
            throws TxnFailedException {
        for (int i = first; i < end; i++) {
            for (int key = 0; key < keys; key++) {
                begun.writeEvent("key" + key, Lab.event(key, i));
            }
        }
    }

    private static void ended(Transaction<String> begun, Transaction.Status status)
            throws Exception {
        Lab.waitFor(status.toString(), () -> begun.checkStatus() == status);
    }
}
