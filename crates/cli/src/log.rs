//! What the libraries tell while they work: warnings, and more if MILWRIGHT_LOG asks for it.
#![expect(clippy::disallowed_methods, reason = "the command reads the environment, no library does")]

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

const VARIABLE: &str = "MILWRIGHT_LOG";

/// Sends events to standard error.
pub fn init() {
    let asked = std::env::var(VARIABLE).ok().filter(|v| !v.is_empty());
    let parsed = asked.as_ref().map(|v| v.parse::<EnvFilter>());
    let wrong = parsed.as_ref().and_then(|p| p.as_ref().err()).map(ToString::to_string);
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Nobody reads a standard error that is closed.
        .log_internal_errors(false)
        .event_format(Lines)
        .init();
    if let Some(e) = wrong {
        tracing::warn!("{VARIABLE} is not understood, try {VARIABLE}=debug: {e}");
    }
}

/// `warning: what happened`, like the command's own messages.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match *event.metadata().level() {
            Level::ERROR => write!(out, "error: ")?,
            Level::WARN => write!(out, "warning: ")?,
            Level::INFO => write!(out, "info: {}: ", event.metadata().target())?,
            Level::DEBUG => write!(out, "debug: {}: ", event.metadata().target())?,
            Level::TRACE => write!(out, "trace: {}: ", event.metadata().target())?,
        }
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}
