//! The only place that prints.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, presets};
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
        self.text(&format!("{}\n", safe_json(&text)));
    }

    /// A line of a result. Line breaks at its start are the caller's; others came with a name, and are shown.
    pub fn line(&self, line: impl Display) {
        let line = line.to_string();
        let breaks = line.len() - line.trim_start_matches('\n').len();
        self.text(&format!("{}{}\n", &line[..breaks], cut(&visible(&line[breaks..]), MAX_LINE)));
    }

    /// Lines of a result, as [`wrapped`] makes them.
    pub fn lines(&self, lines: &str) {
        lines.split('\n').for_each(|line| self.line(line));
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
        let mut inner = comfy_table::Table::new();
        inner.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner.set_header(heads.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
        for column in inner.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Table { inner, is_cut: false }
    }

    /// A table, as a result.
    pub fn show(&self, table: &Table) {
        let text: Vec<String> = table.inner.lines().map(|l| l.trim_end().to_owned()).collect();
        self.text(&(text.join("\n") + "\n"));
        if table.is_cut {
            self.note(format_args!(
                "texts of more than {MAX_CELL} characters are cut off; --json shows them whole"
            ));
        }
    }

    /// A message for people.
    pub fn note(&self, message: impl Display) {
        message_line(&paragraph(&message.to_string()));
    }
}

/// Rows of text. What is in them comes from models: it is made visible, and cut off where it is long, since every row is
/// as wide as the widest.
pub struct Table {
    inner: comfy_table::Table,
    is_cut: bool,
}

impl Table {
    /// Adds a row.
    pub fn add_row(&mut self, cells: Vec<String>) {
        let mut cell = |(i, text): (usize, String)| {
            // Line breaks of `wrapped` stay in their column; in the first one they could pass for a row.
            let lines = text.split('\n').map(visible).collect::<Vec<_>>();
            let whole = lines.join(if i == 0 { "\\n" } else { "\n" });
            self.is_cut |= whole.chars().nth(MAX_CELL).is_some();
            cut(&whole, MAX_CELL).into_owned()
        };
        let cells: Vec<String> = cells.into_iter().enumerate().map(&mut cell).collect();
        self.inner.add_row(cells);
    }
}

/// Characters of a cell.
const MAX_CELL: usize = 300;
/// Characters of a line, of a result or of an error.
const MAX_LINE: usize = 4000;
/// Lines of a message.
const MAX_LINES: usize = 100;

/// The start of a text that is too long, and how long it is.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => text.into(),
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()).into(),
    }
}

/// A message of one line or several. Those after the first are indented, so that none can pass for another message.
fn paragraph(text: &str) -> String {
    let mut shown = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i == MAX_LINES {
            shown += &format!("\n  … and {} more lines", text.split('\n').count() - i);
            break;
        }
        if i > 0 {
            shown += if line.starts_with("  ") { "\n" } else { "\n  " };
        }
        shown += &cut(&visible(line), MAX_LINE);
    }
    shown
}

/// Prints an error, with its hint.
pub fn error(error: &Error) {
    if error.kind() == ErrorKind::Cancelled {
        return interrupted();
    }
    #[expect(clippy::disallowed_methods, reason = "the command decides about colour, no library does")]
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (red, cyan, plain) = if color { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    message_line(&format!("{red}error:{plain} {}", paragraph(&error.to_string())));
    if let Some(hint) = error.hint() {
        message_line(&format!("{cyan}hint:{plain} {}", paragraph(hint)));
    }
}

/// Says that the command did not end by itself.
pub fn interrupted() {
    message_line("interrupted");
}

/// Says that work is about to end with what it has.
pub fn stopping() {
    message_line(
        "stopping: the best that was found is proved and written; Ctrl-C again ends at once, with nothing",
    );
}

fn message_line(line: &str) {
    // There is nowhere left to tell of a standard error that is closed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Names come from models, and must neither command the terminal nor pass for something else: control characters, line
/// breaks, and what reorders or hides text, are shown as their codes.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.into()
}

pub fn is_unsafe(c: char) -> bool {
    // Marks of direction (Trojan source), separators of lines, what takes no room, tags.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// JSON that says the same in characters that a terminal only shows. They can be in its strings only.
fn safe_json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_unsafe(c)) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_unsafe(c) {
            safe.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe += &format!("\\u{unit:04x}"));
        }
    }
    safe.into()
}

/// Aligns columns of numbers to the right.
pub fn align_right(table: &mut Table, columns: &[usize]) {
    for (_, column) in table.inner.column_iter_mut().enumerate().filter(|(i, _)| columns.contains(i)) {
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
        assert_eq!(visible("plain ümläut\n\x1b[31m\r\u{9b}"), "plain ümläut\\n\\u{1b}[31m\\r\\u{9b}");
        assert_eq!(visible("a\u{202e}b\u{2066}c\u{200b}d\u{2028}"), r"a\u{202e}b\u{2066}c\u{200b}d\u{2028}");
        assert_eq!(visible("名前 👍"), "名前 👍");
    }

    #[test]
    fn lines_of_a_message_are_indented() {
        assert_eq!(paragraph("one\nerror: two\n    three"), "one\n  error: two\n    three");
        assert!(paragraph(&"x\n".repeat(1_000_000)).ends_with("more lines"));
    }

    #[test]
    fn json_stays_what_it_is() {
        let value = serde_json::json!({ "a\u{202e}\n": ["\x1b[2J\u{9b}\u{7f}\u{e0041}", "ü"] });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let safe = safe_json(&text);
        assert!(safe.chars().all(|c| c == '\n' || !is_unsafe(c)), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }

    /// Ten times the text is at most ten times the output, however it is distributed, and has a bound for one text.
    #[test]
    fn long_texts_are_cut() {
        let printer = Printer::new(false);
        let shown = |rows: usize, text: &str| {
            let mut table = printer.table(&["a", "b"]);
            (0..rows).for_each(|_| table.add_row(vec!["x".into(), text.into()]));
            assert_eq!(table.is_cut, text.len() > MAX_CELL);
            table.inner.lines().map(|line| line.len()).sum::<usize>()
        };
        let long = "long text ".repeat(100_000);
        assert!(shown(10, &long) < 20 * MAX_CELL);
        assert!(shown(100, &long) < 11 * shown(10, &long));
        assert!(shown(10, "short") < 300);
        assert_eq!(cut(&"ü".repeat(5), 3), "üüü… (5 characters)");
        assert_eq!(cut("üüü", 3), "üüü");
    }
}
