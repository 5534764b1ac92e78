//! The letters of a script: a cursor that knows its line, skips what is not read, and takes numbers, words and strings.
//!
//! Line ends mean no more than other white space: a call may go on over several lines, as packetdrill lets it.

pub type Result<T> = std::result::Result<T, String>;

/// Blanks comments (`//`, `/* */`), which may hold anything; not inside strings, shell commands and code.
pub fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (kept, blanked) = match c {
            '/' if rest.starts_with("//") => (0, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (0, rest.find("*/").map_or(rest.len(), |at| at + 2)),
            '`' => (rest[1..].find('`').map_or(rest.len(), |at| at + 2), 0),
            '%' if rest.starts_with("%{") => (rest.find("}%").map_or(rest.len(), |at| at + 2), 0),
            '"' => (string_end(rest).unwrap_or(rest.len()), 0),
            c => (c.len_utf8(), 0),
        };
        out.push_str(&rest[..kept]);
        out.extend(rest[..blanked].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[kept + blanked..];
    }
    out
}

/// Where the string that `text` begins with is over.
fn string_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while *bytes.get(at)? != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    Some(at + 1)
}

/// A place in the text.
#[derive(Clone)]
pub struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor { text: text.as_bytes(), at: 0 }
    }

    /// The line of the next letter, from 1.
    pub fn line(&mut self) -> usize {
        self.peek();
        1 + self.text[..self.at].iter().filter(|&&b| b == b'\n').count()
    }

    /// The next letter; 0 at the end.
    pub fn peek(&mut self) -> u8 {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Whether these letters come next.
    pub fn sees(&mut self, letters: &str) -> bool {
        self.peek();
        self.text[self.at..].starts_with(letters.as_bytes())
    }

    /// Takes these letters, if they come next.
    pub fn takes(&mut self, letters: &str) -> bool {
        let sees = self.sees(letters);
        if sees {
            self.at += letters.len();
        }
        sees
    }

    /// Takes these letters.
    pub fn expect(&mut self, letters: &str) -> Result<()> {
        if self.takes(letters) { Ok(()) } else { Err(format!("'{letters}' is missing")) }
    }

    /// Takes everything up to these letters, and them.
    pub fn up_to(&mut self, letters: &str) -> Result<String> {
        let rest = &self.text[self.at..];
        let found = rest.windows(letters.len()).position(|w| w == letters.as_bytes());
        let len = found.ok_or(format!("'{letters}' is missing"))?;
        self.at += len + letters.len();
        Ok(String::from_utf8_lossy(&rest[..len]).into_owned())
    }

    /// Takes letters as long as they are of a kind.
    fn run(&mut self, of_kind: impl Fn(u8) -> bool) -> String {
        self.peek();
        let from = self.at;
        while self.text.get(self.at).is_some_and(|&b| of_kind(b)) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.text[from..self.at]).into_owned()
    }

    /// A name or a number as written, perhaps none.
    pub fn word(&mut self) -> String {
        self.run(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }

    /// The word that comes next, which stays.
    pub fn next_word(&mut self) -> String {
        self.clone().word()
    }

    /// The rest of the line.
    pub fn rest_of_line(&mut self) -> String {
        self.run(|b| b != b'\n').trim().into()
    }

    /// A number without sign.
    pub fn number<T: std::str::FromStr>(&mut self) -> Result<T> {
        let digits = self.run(|b| b.is_ascii_digit());
        digits.parse().map_err(|_| format!("a number is missing, or '{digits}' is too large"))
    }

    /// Hexadecimal digits, in pairs.
    pub fn hex(&mut self) -> Result<Vec<u8>> {
        let digits = self.run(|b| b.is_ascii_hexdigit());
        let pair = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
        bytes.ok_or(format!("'{digits}': half a byte"))
    }

    /// Seconds, in µs. A time may be followed by `...`, which is not part of it.
    pub fn seconds(&mut self) -> Result<i64> {
        let mut digits = self.run(|b| b.is_ascii_digit());
        if self.text.get(self.at) == Some(&b'.') && !self.text[self.at..].starts_with(b"...") {
            self.at += 1;
            digits.push('.');
            while let Some(digit) = self.text.get(self.at).filter(|b| b.is_ascii_digit()) {
                digits.push(char::from(*digit));
                self.at += 1;
            }
        }
        digits.parse::<f64>().map(|s| (s * 1e6).round() as i64).map_err(|_| format!("'{digits}': seconds?"))
    }

    /// A string, in quotation marks, with C's escapes.
    pub fn string(&mut self) -> Result<Vec<u8>> {
        self.expect("\"")?;
        let mut out = Vec::new();
        loop {
            let (Some(&letter), next) = (self.text.get(self.at), self.text.get(self.at + 1)) else {
                return Err("a string without end".into());
            };
            self.at += 1;
            match (letter, next) {
                (b'"', _) => return Ok(out),
                (b'\\', Some(b'x')) => {
                    let digits =
                        self.text.get(self.at + 1..self.at + 3).and_then(|d| std::str::from_utf8(d).ok());
                    let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    out.push(byte.ok_or("\\x and two digits?")?);
                    self.at += 3;
                }
                (b'\\', Some(&escape)) => {
                    out.push(match escape {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'0' => 0,
                        other => other,
                    });
                    self.at += 1;
                }
                _ => out.push(letter),
            }
        }
    }
}
