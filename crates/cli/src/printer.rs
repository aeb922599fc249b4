//! The only place that prints.

use std::cell::OnceCell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use milwright::{Error, ErrorKind, Result};
use serde::Serialize;

/// Prints results to standard output and messages to standard error.
pub struct Printer {
    json: bool,
    /// Why standard output takes no more.
    closed: OnceCell<io::Error>,
}

impl Printer {
    /// A printer of JSON or of text.
    pub fn new(json: bool) -> Printer {
        Printer { json, closed: OnceCell::new() }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A result as one JSON value.
    pub fn json(&self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"));
        self.text(&format!("{text}\n"));
    }

    /// A line of a result.
    pub fn line(&self, line: impl Display) {
        self.text(&format!("{}\n", visible(&line.to_string())));
    }

    /// Text of a result, as it is.
    pub fn text(&self, text: &str) {
        if self.closed.get().is_some() {
            return;
        }
        let mut out = io::stdout().lock();
        if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            let _ = self.closed.set(e);
        }
    }

    /// Whether everything was printed. A reader that has had enough, such as `head`, is not an error.
    pub fn finish(self) -> Result<()> {
        match self.closed.into_inner() {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::new(ErrorKind::Io, format!("cannot write to standard output: {e}"))
                    .with_hint("the result is not complete"))
            }
            _ => Ok(()),
        }
    }

    /// An empty table with these column heads.
    pub fn table(&self, heads: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heads.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
    }

    /// A table, as a result.
    pub fn show(&self, table: &Table) {
        let text: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
        self.line(text.join("\n"));
    }

    /// A message for people.
    pub fn note(&self, message: impl Display) {
        message_line(&visible(&message.to_string()));
    }
}

/// Prints an error, with its hint.
pub fn error(error: &Error) {
    if error.kind() == ErrorKind::Cancelled {
        return message_line("interrupted");
    }
    #[expect(clippy::disallowed_methods, reason = "the command decides about colour, no library does")]
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (red, cyan, plain) = if color { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    message_line(&format!("{red}error:{plain} {}", visible(&error.to_string())));
    if let Some(hint) = error.hint() {
        message_line(&format!("{cyan}hint:{plain} {}", visible(hint)));
    }
}

fn message_line(line: &str) {
    // There is nowhere left to tell of a standard error that is closed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Names come from models, and must not command the terminal: control characters are shown as their codes.
fn visible(text: &str) -> String {
    let shown =
        |c: char| if c.is_control() && c != '\n' { c.escape_default().collect() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Aligns columns of numbers to the right.
pub fn align_right(table: &mut Table, columns: &[usize]) {
    for (_, column) in table.column_iter_mut().enumerate().filter(|(i, _)| columns.contains(i)) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Text in lines of at most `width` characters where its words allow that; its own line breaks become spaces.
pub fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut len = 0;
    for word in text.split_whitespace() {
        let word_len = word.chars().count();
        match lines.last_mut().filter(|_| len + 1 + word_len <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
                len += 1 + word_len;
            }
            None => {
                lines.push(word.to_owned());
                len = word_len;
            }
        }
    }
    lines.join("\n")
}

/// A whole number with a comma after every three digits.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count of things, in words.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A number with three digits that count.
pub fn number(x: f64) -> String {
    if x == 0.0 {
        "0".into()
    } else if (1e-3..1e4).contains(&x.abs()) {
        format!("{x:.4}")
    } else {
        format!("{x:.2e}")
    }
}

/// A duration for people.
pub fn duration(d: std::time::Duration) -> String {
    let s = d.as_secs_f64();
    if s < 1e-3 {
        format!("{:.1} µs", s * 1e6)
    } else if s < 1.0 {
        format!("{:.2} ms", s * 1e3)
    } else {
        format!("{s:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 KB");
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(bytes(90_900_000), "90.9 MB");
    }

    #[test]
    fn whole_numbers() {
        let all = [0, 12, 999, 1000, 25_557_032].map(grouped);
        assert_eq!(all, ["0", "12", "999", "1,000", "25,557,032"]);
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrapped("one two\nthree", 7), "one two\nthree");
        assert_eq!(
            wrapped("antidisestablishmentarianism is long", 7),
            "antidisestablishmentarianism\nis long"
        );
        assert_eq!(wrapped("", 7), "");
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(visible("plain ümläut\n\x1b[31m\r\u{9b}"), "plain ümläut\n\\u{1b}[31m\\r\\u{9b}");
    }
}
