//! The run as a picture: where each rank was, when it moved, and how long its iterations took.

use std::fmt::Write as _;

use cells::world::{Move, Report};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;
const LANE: f64 = 26.0;
const CHART: f64 = 160.0;
/// One colour a host; readable to the colour-blind (Okabe and Ito).
const COLOURS: [&str; 2] = ["#0072b2", "#e69f00"];

/// Draws the timeline as SVG.
pub(super) fn draw(report: &Report, n_ranks: u32, baseline: usize) -> String {
    let span_ns = report.duration.as_nanos().max(1) as f64;
    let x = |ns: u64| LEFT + (ns.saturating_sub(report.began_ns) as f64 / span_ns).min(1.0) * WIDTH;
    let lanes_end = TOP + LANE * f64::from(n_ranks);
    let height = lanes_end + CHART + 80.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{w}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"16\">{n} live moves of {n_ranks} ranks between two hosts, {s:.1} s</text>\n\
         <text x=\"{LEFT}\" y=\"44\"><tspan fill=\"{a}\">■</tspan> host 0  <tspan fill=\"{b}\">■</tspan> host 1  ▼ move (pause)</text>\n",
        w = LEFT + WIDTH + 30.0,
        n = report.moves.len(),
        s = report.duration.as_secs_f64(),
        a = COLOURS[0],
        b = COLOURS[1],
    );
    let end_ns = report
        .began_ns
        .saturating_add(u64::try_from(report.duration.as_nanos()).unwrap_or(u64::MAX));
    for rank in 0..n_ranks {
        let y = TOP + LANE * f64::from(rank);
        let moves: Vec<&Move> = report.moves.iter().filter(|m| m.rank == rank).collect();
        let first = moves.first().map_or(0, |m| m.from);
        push(
            &mut svg,
            format_args!("<text x=\"8\" y=\"{:.1}\">rank {rank}</text>", y + 15.0),
        );
        let starts = std::iter::once((report.began_ns, first))
            .chain(moves.iter().map(|m| (m.resumed_ns, m.to)));
        let ends = moves
            .iter()
            .map(|m| m.frozen_ns)
            .chain(std::iter::once(end_ns));
        for ((start, host), end) in starts.zip(ends) {
            let colour = COLOURS[host as usize % COLOURS.len()];
            let (from, width) = (x(start), (x(end) - x(start)).max(0.0));
            push(
                &mut svg,
                format_args!(
                    "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"18\" fill=\"{colour}\"/>"
                ),
            );
        }
        for m in moves {
            let pause = m.pause().as_secs_f64() * 1e3;
            push(
                &mut svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">▼<title>{m}</title></text>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"white\" font-size=\"10\">{pause:.1} ms</text>",
                    x(m.resumed_ns),
                    y + 4.0,
                    x(m.resumed_ns) + 5.0,
                    y + 13.0
                ),
            );
        }
    }
    chart(&mut svg, report, baseline, lanes_end + 40.0, &x);
    svg.push_str("</svg>\n");
    svg
}

/// The time from one collective to the next at the lowest rank.
fn chart(svg: &mut String, report: &Report, baseline: usize, top: f64, x: &dyn Fn(u64) -> f64) {
    let Some(marks) = report.marks.first_key_value().map(|(_, marks)| marks) else {
        return;
    };
    let times: Vec<(u64, f64)> = marks
        .windows(2)
        .map(|pair| (pair[1].1, (pair[1].1 - pair[0].1) as f64 / 1e6))
        .collect();
    let mut sorted: Vec<f64> = times.iter().map(|(_, ms)| *ms).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(highest) = sorted.last().copied().filter(|highest| *highest > 0.0) else {
        return;
    };
    let median = sorted[sorted.len() / 2];
    let y = |ms: f64| top + CHART * (1.0 - ms / highest);
    push(
        svg,
        format_args!(
            "<text x=\"{LEFT}\" y=\"{:.1}\">time between two collectives at the lowest rank, ms \
         (median {median:.2}; a disturbed one counts against the median of {baseline} before it)</text>",
            top - 8.0
        ),
    );
    for (at, label) in [
        (0.0, "0".to_owned()),
        (median, format!("{median:.1}")),
        (highest, format!("{highest:.1}")),
    ] {
        push(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#ccc\"/>\
             <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT + WIDTH,
                y(at),
                LEFT - 6.0,
                y(at) + 4.0
            ),
        );
    }
    let points: Vec<String> = times
        .iter()
        .map(|(at, ms)| format!("{:.1},{:.1}", x(*at), y(*ms)))
        .collect();
    push(
        svg,
        format_args!(
            "<polyline fill=\"none\" stroke=\"#333\" stroke-width=\"1\" points=\"{}\"/>",
            points.join(" ")
        ),
    );
    for m in &report.moves {
        push(
            svg,
            format_args!(
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top:.1}\" y2=\"{1:.1}\" stroke=\"#d55e00\" stroke-dasharray=\"2 3\"/>",
                x(m.resumed_ns),
                top + CHART
            ),
        );
    }
}

fn push(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a string takes all");
}
