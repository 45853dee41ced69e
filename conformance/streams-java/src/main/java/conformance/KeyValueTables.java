package conformance;

import io.pravega.client.KeyValueTableFactory;
import io.pravega.client.admin.KeyValueTableManager;
import io.pravega.client.tables.ConditionalTableUpdateException;
import io.pravega.client.tables.Insert;
import io.pravega.client.tables.KeyValueTable;
import io.pravega.client.tables.KeyValueTableClientConfiguration;
import io.pravega.client.tables.KeyValueTableConfiguration;
import io.pravega.client.tables.Put;
import io.pravega.client.tables.Remove;
import io.pravega.client.tables.TableKey;
import io.pravega.client.tables.Version;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletionException;

/** Tables of keys of a fixed length: conditional changes, changes together, and iterating in order. */
public final class KeyValueTables {
    public static void main(String[] arguments) throws Exception {
        KeyValueTableConfiguration made = KeyValueTableConfiguration.builder()
                .partitionCount(2).primaryKeyLength(4).secondaryKeyLength(4).build();
        try (Lab lab = new Lab(arguments);
                var tables = KeyValueTableManager.create(lab.config);
                var clients = KeyValueTableFactory.withScope(lab.scope, lab.config)) {
            Lab.check(tables.createKeyValueTable(lab.scope, "table", made), "the table is new");
            Lab.check(!tables.createKeyValueTable(lab.scope, "table", made), "it is made once");
            var usual = KeyValueTableClientConfiguration.builder().build();
            try (KeyValueTable table = clients.forKeyValueTable("table", usual)) {
                conditions(table);
                together(table);
            }
            List<String> names = new ArrayList<>();
            tables.listKeyValueTables(lab.scope)
                    .forEachRemaining(found -> names.add(found.getKeyValueTableName()));
            Lab.same(List.of("table"), names, "tables");
            Lab.check(tables.deleteKeyValueTable(lab.scope, "table"), "deleted");
        }
    }

    private static void conditions(KeyValueTable table) {
        TableKey key = new TableKey(bytes("key0"), bytes("0000"));
        Version first = table.update(new Insert(key, bytes("one"))).join();
        Lab.check(refused(table, new Insert(key, bytes("late"))), "inserted once");
        table.update(new Put(key, bytes("two"), first)).join();
        Lab.check(refused(table, new Put(key, bytes("late"), first)), "of an old version");
        Lab.same("two", text(table.get(key).join().getValue()), "value");
        table.update(new Remove(key)).join();
        Lab.same(null, table.get(key).join(), "value of a key that was removed");
    }

    private static boolean refused(
            KeyValueTable table, io.pravega.client.tables.TableModification change) {
        try {
            table.update(change).join();
            return false;
        } catch (CompletionException error) {
            return error.getCause() instanceof ConditionalTableUpdateException;
        }
    }

    private static void together(KeyValueTable table) throws Exception {
        List<io.pravega.client.tables.TableModification> changes = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            String second = String.format("%04d", i);
            changes.add(new Put(new TableKey(bytes("keys"), bytes(second)), bytes(second)));
        }
        Lab.same(100, table.update(changes).join().size(), "versions");
        List<String> found = new ArrayList<>();
        table.iterator().maxIterationSize(30).forPrimaryKey(bytes("keys")).entries()
                .forEachRemaining(
                        item -> item.getItems().forEach(entry -> found.add(text(entry.getValue()))),
                        Runnable::run)
                .join();
        Lab.same(100, found.size(), "entries");
        Lab.same(found.stream().sorted().toList(), found, "entries in order");
    }

    private static ByteBuffer bytes(String text) {
        return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(ByteBuffer bytes) {
        return StandardCharsets.UTF_8.decode(bytes.duplicate()).toString();
    }
}
