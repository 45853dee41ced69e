//! Log lines on standard error.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::Error;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: `role time LEVEL span: target: message field=value`.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Sends the events that `filter` lets pass to standard error, for the rest of the process's life.
///
/// `filter` is a list of directives such as `info` or `warn,cells=debug`. `role` names the process in every line:
/// the processes of a world often write to one terminal.
///
/// # Errors
/// When `filter` is malformed, or when logging is set up already.
pub fn init(role: &'static str, format: LogFormat, filter: &str) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter).map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let outcome = match format {
        LogFormat::Text => builder
            .event_format(TextLine {
                role,
                inner: Format::default(),
            })
            .try_init(),
        LogFormat::Json => builder
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine {
                role,
                inner: Format::default().json(),
            })
            .try_init(),
    };
    outcome.map_err(|_| Error::Twice)
}

/// The usual line, after the role.
struct TextLine {
    role: &'static str,
    inner: Format,
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "{} ", self.role)?;
        self.inner.format_event(context, writer, event)
    }
}

/// The usual object, with the role as its first member.
struct JsonLine {
    role: &'static str,
    inner: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        let members = line.strip_prefix('{').ok_or(fmt::Error)?;
        // A role is a literal of ours; quoted as Rust quotes it, it is a JSON string too.
        write!(writer, "{{\"role\":{:?},{members}", self.role)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The line that `format` makes of one event in a span.
    fn line(format: LogFormat) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let builder = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let emit = || {
            let span = tracing::info_span!("world", id = 7);
            span.in_scope(|| tracing::info!(rank = 3, "moved \"it\""));
        };
        match format {
            LogFormat::Text => {
                let event = TextLine {
                    role: "cell-host",
                    inner: Format::default(),
                };
                tracing::subscriber::with_default(builder.event_format(event).finish(), emit);
            }
            LogFormat::Json => {
                let event = JsonLine {
                    role: "cell-host",
                    inner: Format::default().json(),
                };
                let builder = builder.fmt_fields(JsonFields::new()).event_format(event);
                tracing::subscriber::with_default(builder.finish(), emit);
            }
        }
        let bytes = lines.0.lock().expect("nobody panicked").clone();
        String::from_utf8(bytes).expect("log lines are text")
    }

    #[test]
    fn text_lines_begin_with_the_role() {
        let line = line(LogFormat::Text);
        assert!(line.starts_with("cell-host "), "{line}");
        assert!(
            line.contains("INFO world{id=7}: ") && line.contains("rank=3"),
            "{line}"
        );
        assert!(line.ends_with('\n') && !line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn json_lines_carry_the_role_and_the_fields() {
        let line = line(LogFormat::Json);
        assert!(
            line.starts_with("{\"role\":\"cell-host\",\"timestamp\":\""),
            "{line}"
        );
        assert!(
            line.contains("\"rank\":3") && line.contains("\"id\":7"),
            "{line}"
        );
        assert!(
            line.contains("moved \\\"it\\\"") && line.ends_with("}\n"),
            "{line}"
        );
    }

    #[test]
    fn a_malformed_filter_is_refused() {
        assert!(matches!(
            init("test", LogFormat::Text, "cells=loud"),
            Err(Error::Filter { .. })
        ));
    }
}
