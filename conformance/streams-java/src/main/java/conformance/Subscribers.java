package conformance;

import io.pravega.client.admin.ReaderGroupManager;
import io.pravega.client.stream.ReaderGroup;
import io.pravega.client.stream.ReaderGroupConfig;
import io.pravega.client.stream.ReaderGroupConfig.StreamDataRetention;
import io.pravega.client.stream.Stream;
import java.util.List;

/** A group that says up to where its streams may be given up, and is listed as a subscriber of them. */
public final class Subscribers {
    public static void main(String[] arguments) throws Exception {
        try (Lab lab = new Lab(arguments);
                ReaderGroupManager groups = ReaderGroupManager.withScope(lab.scope, lab.config)) {
            Stream stream = lab.stream("subscribed", 2);
            ReaderGroupConfig config = ReaderGroupConfig.builder().stream(stream)
                    .retentionType(StreamDataRetention.MANUAL_RELEASE_AT_USER_STREAMCUT)
                    .build();
            Lab.check(groups.createReaderGroup("group", config), "the group is new");
            try (ReaderGroup group = groups.getReaderGroup("group")) {
                group.updateRetentionStreamCut(group.getStreamCuts());
            }
            List<String> subscribers = lab.controller((controller, pool) ->
                    controller.listSubscribers(lab.scope, "subscribed").get());
            Lab.same(List.of(lab.scope + "/group"), subscribers, "subscribers");
        }
    }
}
