//! What the object store costs, beside what the machine allows and what others take for the same.
//!
//! Both sides of a comparison are measured in turn, on random data that is larger than four of the last cache together, and sum every byte that they
//! read. Peers that are other people's programs are looked for when they are needed; who misses one is told how to get it.

mod hits;
mod kpi8;
mod limit;
mod local;
mod names;
mod network;
mod reads;
pub(crate) mod s3;
mod versus;
mod writes;

use super::side::Side;
use super::{Goal, Group, Measured, Setting, benchmark, quantile, tell};
use super::{data, node, peers, process, proxy, stats};

const COPY_4K: &str = "4 KiB copied out of as much memory, and summed";
const ROUND_TRIP: &str = "a round trip on a Unix socket";
const MAPPED: &str = "a sum of as much memory, mapped by the allocator";
const COPY_CRC_4K: &str = "4 KiB copied into warm memory, with their CRC32C";
const COPY_CRC_1M: &str = "1 MiB copied into warm memory, with its CRC32C, in one pass";
const FDATASYNC: &str = "the same bytes written to a file that has its room, and fdatasync";
const SENDFILE: &str = "sendfile from memory over loopback";
const TCP: &str = "write and read over loopback";

const KEYS: &str = "as many keys copied out of an ordered map";
const CACHES: &str = "the best of moka and foyer";

const REDIS: &str = "Redis GET, by the faster of a Unix socket and loopback";
const PLASMA: &str = "ray.get of Ray's object store, from Python";
const S3S_FS: &str = "s3s-fs over a file in the page cache";

const NOISE: &str = "the difference of two nodes that do not";

/// Percent.
const KPI8_GOAL: Option<Goal> = Some(Goal::ValueAtMostOrPeer(1.0));
/// Points below the best of others.
const HITS_GOAL: Option<Goal> = Some(Goal::DifferenceAtLeast(-0.5));

pub(super) const GROUPS: &[Group] = &[
    Group {
        benchmarks: &[
            benchmark(
                "geds.open_read_4k.in_process",
                "us",
                COPY_4K,
                Some(Goal::ValueAtMost(1.0)),
            ),
            benchmark("geds.open_read_4k.in_process.first", "us", COPY_4K, None),
        ],
        measure: reads::open_read_4k,
    },
    Group {
        benchmarks: &[
            benchmark(
                "geds.open_read_4k.other_process_warm",
                "us",
                COPY_4K,
                Some(Goal::ValueAtMost(2.0)),
            ),
            benchmark(
                "geds.open_read_4k.other_process_first",
                "us",
                ROUND_TRIP,
                Some(Goal::ValueAtMost(40.0)),
            ),
        ],
        measure: local::open_read_4k,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.scan_view",
            "GB/s",
            MAPPED,
            Some(Goal::RatioAtLeast(0.97)),
        )],
        measure: reads::scan_view,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.seal_4k.ephemeral",
            "us",
            COPY_CRC_4K,
            Some(Goal::ValueAtMost(8.0)),
        )],
        measure: writes::seal_4k_ephemeral,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.seal_4k.durable",
            "us",
            FDATASYNC,
            Some(Goal::RatioAtMost(1.3)),
        )],
        measure: writes::seal_4k_durable,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.write_1m",
            "GB/s",
            COPY_CRC_1M,
            Some(Goal::RatioAtLeast(0.9)),
        )],
        measure: writes::write_1m,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.peer_16m",
            "GB/s",
            SENDFILE,
            Some(Goal::RatioAtLeast(0.85)),
        )],
        measure: network::peer_16m,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.s3_get_64m",
            "GB/s",
            TCP,
            Some(Goal::RatioAtLeast(0.85)),
        )],
        measure: network::s3_get_64m,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.read_4k.vs_redis",
            "1/s",
            REDIS,
            Some(Goal::RatioAtLeast(20.0)),
        )],
        measure: versus::read_4k_redis,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.read_1m.copy_vs_redis",
            "GB/s",
            REDIS,
            Some(Goal::RatioAtLeast(2.0)),
        )],
        measure: versus::read_1m_redis,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.read_1m.vs_plasma",
            "GB/s",
            PLASMA,
            Some(Goal::RatioAtLeast(2.0)),
        )],
        measure: versus::read_1m_plasma,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.s3_get_64m_vs_s3s_fs",
            "GB/s",
            S3S_FS,
            Some(Goal::RatioAtLeast(2.0)),
        )],
        measure: versus::s3_get_64m,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.list_1e6",
            "s",
            KEYS,
            Some(Goal::ValueAtMost(1.5)),
        )],
        measure: names::list_1e6,
    },
    Group {
        benchmarks: &[benchmark(
            "geds.limit",
            "MiB",
            "the limit",
            Some(Goal::RatioAtMost(1.01)),
        )],
        measure: limit::limit,
    },
    Group {
        benchmarks: &[
            benchmark("geds.hit_ratio.zipf_0.9", "%", CACHES, HITS_GOAL),
            benchmark("geds.hit_ratio.zipf_1.0", "%", CACHES, HITS_GOAL),
            benchmark("geds.hit_ratio.zipf_0.9_scans", "%", CACHES, HITS_GOAL),
            benchmark("geds.hit_ratio.shuffle", "%", CACHES, HITS_GOAL),
            benchmark(
                "geds.hit_ratio.zipf_0.9.over_lru",
                "%",
                "the one that was used longest ago leaves",
                Some(Goal::DifferenceAtLeast(10.0)),
            ),
        ],
        measure: hits::hit_ratio,
    },
    Group {
        benchmarks: &[
            benchmark("geds.kpi8", "%", NOISE, KPI8_GOAL),
            benchmark("geds.kpi8.p99_25", "%", NOISE, KPI8_GOAL),
            benchmark("geds.kpi8.p99_50", "%", NOISE, KPI8_GOAL),
        ],
        measure: kpi8::kpi8,
    },
];
