//! The lexer: splits text into tokens.

use std::borrow::Cow;

use super::error::ParseError;

/// A token, which borrows from the text if it can.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// An identifier.
    Ident(&'a str),
    /// A name in back quotes.
    Name(Cow<'a, str>),
    /// A string.
    Str(Cow<'a, str>),
    /// A number as it is written.
    Number(&'a str),
    /// `->`
    Arrow,
    /// Any other single character.
    Char(char),
    /// The end of the text.
    End,
}

/// Splits a text into tokens, with one token of look-ahead.
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// The current token, and where it starts.
    pub token: Token<'a>,
    pub start: usize,
    /// Where the current token ends.
    end: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Result<Lexer<'a>, ParseError> {
        let mut lexer = Lexer { text, token: Token::End, start: 0, end: 0 };
        lexer.advance()?;
        Ok(lexer)
    }

    /// Moves to the next token and returns the previous one.
    pub fn advance(&mut self) -> Result<Token<'a>, ParseError> {
        let start = self.skip_space();
        self.start = start;
        let rest = &self.text[start..];
        let (token, length) = match rest.chars().next() {
            None => (Token::End, 0),
            Some(c) if is_ident_start(c) => {
                let n = rest.find(|c| !is_ident(c)).unwrap_or(rest.len());
                (Token::Ident(&rest[..n]), n)
            }
            Some('-') if rest[1..].starts_with('>') => (Token::Arrow, 2),
            Some('0'..='9' | '-' | '+' | '.') => {
                let n = number_length(rest.as_bytes());
                (Token::Number(&rest[..n]), n)
            }
            Some('"') => {
                let (s, n) = self.quoted('"', "string")?;
                (Token::Str(s), n)
            }
            Some('`') => {
                let (s, n) = self.quoted('`', "name")?;
                (Token::Name(s), n)
            }
            Some(c) => (Token::Char(c), c.len_utf8()),
        };
        self.end = start + length;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Whether the token after the current one starts with this character.
    pub fn next_starts_with(&self, c: char) -> bool {
        self.text[self.skip_space()..].starts_with(c)
    }

    /// Makes an error at an offset in the text.
    pub fn error_at(&self, offset: usize, message: String) -> ParseError {
        ParseError::new(self.text, offset, message)
    }

    /// Makes an error that the current token is not the expected one.
    pub fn unexpected(&self, expected: &str) -> ParseError {
        let found: Cow<'_, str> = match &self.text[self.start..self.end] {
            "" => "the end of the text".into(),
            t if t.chars().count() > 40 => format!("`{}…`", t.chars().take(40).collect::<String>()).into(),
            t => format!("`{t}`").into(),
        };
        self.error_at(self.start, format!("expected {expected}, found {found}"))
    }

    /// Returns the end of the white space and comments after the current token.
    fn skip_space(&self) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = self.end;
        loop {
            match bytes.get(at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
                Some(b'/') if bytes.get(at + 1) == Some(&b'/') => {
                    at += bytes[at..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - at);
                }
                _ => return at,
            }
        }
    }

    /// Reads a string or name that starts at `self.start`. Returns its characters, and its length in the text.
    fn quoted(&self, quote: char, what: &str) -> Result<(Cow<'a, str>, usize), ParseError> {
        let body = &self.text[self.start + 1..];
        let plain = body.find([quote, '\\']).unwrap_or(body.len());
        if body[plain..].starts_with(quote) {
            return Ok((body[..plain].into(), plain + 2));
        }
        let mut s = body[..plain].to_owned();
        let mut chars = body[plain..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                _ if c == quote => return Ok((s.into(), plain + i + 2)),
                '\\' => match chars.next() {
                    Some((_, 'n')) => s.push('\n'),
                    Some((_, 't')) => s.push('\t'),
                    Some((_, 'r')) => s.push('\r'),
                    Some((_, c @ ('\\' | '"' | '\'' | '`'))) => s.push(c),
                    Some((_, 'x')) => {
                        let digits: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                        let code = u8::from_str_radix(&digits, 16).ok().filter(u8::is_ascii);
                        s.push(char::from(code.ok_or_else(|| self.bad_escape(plain + i))?));
                    }
                    _ => return Err(self.bad_escape(plain + i)),
                },
                c => s.push(c),
            }
        }
        Err(self.error_at(self.start, format!("the {what} does not end")))
    }

    fn bad_escape(&self, offset: usize) -> ParseError {
        let what = "unknown escape; known are \\n \\t \\r \\\\ \\\" \\` and \\xNN below \\x80";
        self.error_at(self.start + 1 + offset, what.to_owned())
    }
}

/// Whether a name can be written without quotes.
pub(super) fn is_identifier(name: &str) -> bool {
    name.starts_with(is_ident_start) && name.chars().all(is_ident)
}

fn is_ident_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '@'
}

fn is_ident(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '@'
}

/// Returns the length of a number. Signs belong to it at the start and after an exponent's letter.
fn number_length(bytes: &[u8]) -> usize {
    let hex = bytes.iter().take(3).any(|b| b.eq_ignore_ascii_case(&b'x'));
    let exponent = if hex { b'p' } else { b'e' };
    let part = |i: usize| match bytes[i] {
        b'+' | b'-' => i == 0 || bytes[i - 1].eq_ignore_ascii_case(&exponent),
        b => b.is_ascii_alphanumeric() || b == b'.',
    };
    (0..bytes.len()).find(|&i| !part(i)).unwrap_or(bytes.len())
}
