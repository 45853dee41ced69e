//! The three acts as one picture: iteration time against the promise, forecasts, burners, and where the ranks were.

use std::fmt::{Arguments, Write as _};

use super::scene::Take;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 80.0;
const CHART: f64 = 150.0;
const LANES: f64 = 40.0;
const ACT: f64 = CHART + LANES + 70.0;
/// Readable to the colour-blind (Okabe and Ito).
const EDGE: &str = "#e69f00";
const CLOUD: &str = "#0072b2";
const ALARM: &str = "#d55e00";

/// Draws them as SVG.
pub(super) fn draw(takes: &[Take]) -> String {
    let longest_ms = takes.iter().map(|take| take.ended_ms - take.began_ms).max();
    let longest_ms = longest_ms.unwrap_or(1).max(1) as f64;
    let highest = takes.iter().flat_map(|take| {
        let times = take.iterations.iter().map(|(_, seconds)| *seconds);
        times.chain(std::iter::once(take.limit * 1.3))
    });
    let highest = highest.fold(0.0, f64::max).max(1e-9);
    let most_waiting = takes.iter().flat_map(|take| &take.waiting);
    let most_waiting = most_waiting
        .map(|(_, waiting)| *waiting)
        .fold(1.0, f64::max);
    let (width, height) = (LEFT + WIDTH + 30.0, 60.0 + ACT * takes.len() as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"16\">The Learning Plane foresees a violation and moves the program</text>\n\
         <text x=\"{LEFT}\" y=\"42\"><tspan fill=\"{EDGE}\">■</tspan> at the edge  <tspan fill=\"{CLOUD}\">■</tspan> in the cloud  \
         <tspan fill=\"{ALARM}\">- -</tspan> promised  <tspan fill=\"{ALARM}\">●</tspan> forecast (median, 5 to 95 %)  ▼ decision  grey: threads that wait for the edge's processors, up to {most_waiting:.1}</text>\n"
    );
    for (idx, take) in takes.iter().enumerate() {
        let top = 80.0 + ACT * idx as f64;
        Panel {
            take,
            top,
            longest_ms,
            highest,
            most_waiting,
        }
        .draw(&mut svg);
    }
    svg.push_str("</svg>\n");
    svg
}

struct Panel<'a> {
    take: &'a Take,
    top: f64,
    longest_ms: f64,
    highest: f64,
    most_waiting: f64,
}

impl Panel<'_> {
    fn x(&self, at_ms: u64) -> f64 {
        let since = at_ms.saturating_sub(self.take.began_ms) as f64;
        LEFT + (since / self.longest_ms).min(1.0) * WIDTH
    }

    fn y(&self, seconds: f64) -> f64 {
        self.top + CHART * (1.0 - (seconds / self.highest).min(1.05))
    }

    fn draw(&self, svg: &mut String) {
        let take = self.take;
        push(
            svg,
            format_args!(
                "<text x=\"{LEFT}\" y=\"{:.1}\" font-size=\"14\">{}: iteration time, ms</text>",
                self.top - 8.0,
                take.act.name()
            ),
        );
        self.overload(svg);
        for (seconds, colour, dash) in [(0.0, "#999", "none"), (take.limit, ALARM, "6 4")] {
            let y = self.y(seconds);
            push(
                svg,
                format_args!(
                    "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text>",
                    LEFT + WIDTH,
                    LEFT - 6.0,
                    y + 4.0,
                    seconds * 1e3
                ),
            );
        }
        let points: Vec<_> = take
            .iterations
            .iter()
            .map(|(at, seconds)| format!("{:.1},{:.1}", self.x(*at), self.y(*seconds)))
            .collect();
        push(
            svg,
            format_args!(
                "<polyline fill=\"none\" stroke=\"#222\" stroke-width=\"1.5\" points=\"{}\"/>",
                points.join(" ")
            ),
        );
        self.decision(svg);
        self.ranks(svg);
    }

    /// What the edge's processors could not serve, by the kernel's counters, behind the curve.
    fn overload(&self, svg: &mut String) {
        let (Some((first, _)), Some((last, _))) =
            (self.take.waiting.first(), self.take.waiting.last())
        else {
            return;
        };
        let bottom = self.top + CHART;
        let mut points = format!("{:.1},{bottom:.1}", self.x(*first));
        for (at, waiting) in &self.take.waiting {
            let height = (waiting / self.most_waiting).min(1.0) * CHART;
            write!(points, " {:.1},{:.1}", self.x(*at), bottom - height)
                .expect("a string takes all");
        }
        push(
            svg,
            format_args!(
                "<polygon points=\"{points} {:.1},{bottom:.1}\" fill=\"#ddd\"/>",
                self.x(*last)
            ),
        );
    }

    fn decision(&self, svg: &mut String) {
        let Some((decision, _)) = &self.take.decision else {
            return;
        };
        let x = self.x(decision.at_ms);
        push(
            svg,
            format_args!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{ALARM}\">▼<title>{} ({})</title></text>",
                self.top + 8.0,
                escape(&decision.action),
                escape(&decision.branch)
            ),
        );
        let Some(forecast) = &decision.forecast else {
            return;
        };
        let at = |quantile: &str| {
            forecast
                .quantiles
                .get(quantile)
                .map(|seconds| self.y(*seconds))
        };
        let x = self.x(forecast.target_ms);
        if let (Some(low), Some(high)) = (at("0.05"), at("0.95")) {
            push(
                svg,
                format_args!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{ALARM}\" stroke-width=\"2\"/>"
                ),
            );
        }
        if let Some(median) = at("0.5") {
            push(
                svg,
                format_args!("<circle cx=\"{x:.1}\" cy=\"{median:.1}\" r=\"4\" fill=\"{ALARM}\"/>"),
            );
        }
    }

    /// One lane a rank.
    fn ranks(&self, svg: &mut String) {
        let take = self.take;
        let n_ranks = take.moves.iter().map(|m| m.rank + 1).max().unwrap_or(1);
        let lane = LANES / f64::from(n_ranks);
        for rank in 0..n_ranks {
            let y = self.top + CHART + 8.0 + lane * f64::from(rank);
            let moves: Vec<_> = take.moves.iter().filter(|m| m.rank == rank).collect();
            let first = moves.first().map_or("edge", |m| m.from.as_str());
            let starts = std::iter::once((take.began_ms, first));
            let starts = starts.chain(moves.iter().map(|m| (m.resumed_at_ms, m.to.as_str())));
            let ends = moves.iter().map(|m| m.resumed_at_ms);
            let ends = ends.chain(std::iter::once(take.ended_ms));
            for ((from, site), until) in starts.zip(ends) {
                let colour = if site == "edge" { EDGE } else { CLOUD };
                let (x, width) = (self.x(from), self.x(until) - self.x(from));
                push(
                    svg,
                    format_args!(
                        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                         <title>rank {rank} at {site}</title></rect>",
                        lane - 1.0
                    ),
                );
            }
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn push(svg: &mut String, element: Arguments<'_>) {
    writeln!(svg, "{element}").expect("a string takes all");
}
