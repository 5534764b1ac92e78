//! Warnings and errors of a configuration: a file, a line and what was expected.

use std::fmt;

/// Most warnings kept for one file; a file that draws more is not a configuration file.
const MAX_WARNINGS: usize = 200;

/// One remark on a configuration. Displayed as `file:line: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name, or `MOS_NETDEV`.
    pub file: String,
    /// Line, counted from 1 (in `MOS_NETDEV`: the item); 0 means the file as a whole.
    pub line: u32,
    /// What is wrong and what was expected instead.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// A configuration that cannot be used. Displayed as its errors, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl ConfigError {
    pub(super) fn new(errors: Vec<Diagnostic>, warnings: Vec<Diagnostic>) -> Self {
        Self { errors, warnings }
    }

    pub(super) fn of_file(file: &str, message: String) -> Self {
        Self::new(vec![Diagnostic { file: file.to_owned(), line: 0, message }], Vec::new())
    }

    /// What makes the configuration unusable; never empty.
    pub fn errors(&self) -> &[Diagnostic] {
        &self.errors
    }

    /// Warnings met before it was given up: often the cause, as a misspelt key that was ignored.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects the diagnostics of one file.
pub(super) struct Sink<'a> {
    file: &'a str,
    warnings: Vec<Diagnostic>,
    dropped: usize,
    errors: Vec<Diagnostic>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, warnings: Vec::new(), dropped: 0, errors: Vec::new() }
    }

    pub(super) fn at(&self, line: u32, message: impl Into<String>) -> Diagnostic {
        Diagnostic { file: self.file.to_owned(), line, message: message.into() }
    }

    pub(super) fn warn(&mut self, line: u32, message: impl Into<String>) {
        if self.warnings.len() < MAX_WARNINGS {
            let diagnostic = self.at(line, message);
            self.warnings.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn error(&mut self, line: u32, message: impl Into<String>) {
        let diagnostic = self.at(line, message);
        self.errors.push(diagnostic);
    }

    /// Errors and warnings, each in file order.
    pub(super) fn finish(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.errors.sort_by_key(|d| d.line);
        self.warnings.sort_by_key(|d| d.line);
        if self.dropped > 0 {
            let more = self.at(0, format!("{} further warnings are not shown", self.dropped));
            self.warnings.push(more);
        }
        (self.errors, self.warnings)
    }
}

/// Text from a file as it may stand in a message: without control characters, and short.
pub(super) fn quoted(text: &str) -> String {
    const MAX: usize = 60;
    let mut out = String::from("`");
    for (i, c) in text.chars().enumerate() {
        if i == MAX {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { '?' } else { c });
    }
    out.push('`');
    out
}
