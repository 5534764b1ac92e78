//! Text → blocks and lines, with the line each stands on; no key, number or name has a meaning here.
//!
//! `#` starts a comment up to the end of the line, also inside quotes. A block is `name { … }`: the
//! brace may stand on a later line, and entries may share a line with either brace. Everything else is
//! an entry, at most one a line between braces. Braces that open and close within one `key = value` line
//! belong to the value, unless the word before them names a block. (endpoint-io §2.1, D15)

use super::diag::{Sink, quoted};

/// Names a block can have, in any place.
const BLOCKS: [&str; 7] =
    ["application", "mos", "netdev", "arp_table", "route_table", "nic_forward_table", "dpdk"];

/// Blocks nested deeper than this are skipped (two levels have a meaning).
const MAX_DEPTH: usize = 8;

/// One line's text without comment and outer blanks; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub line: u32,
    pub text: &'a str,
}

/// `name { items }`. A name that is not a word (empty, or several words) is kept as it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub line: u32,
    pub name: &'a str,
    pub items: Vec<Item<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Entry(Entry<'a>),
    Block(Block<'a>),
}

/// What a text holds outside any block.
pub(super) struct Text<'a> {
    pub items: Vec<Item<'a>>,
    /// Blocks without their closing brace, outermost first, by line and name. Their content is lost.
    pub unclosed: Vec<(u32, &'a str)>,
    /// Number of lines.
    pub lines: u32,
}

/// Whether `text` is a letter followed by letters, digits and underscores.
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Splits `text` into items. A stray closing brace and too deep a nesting are warned about.
pub(super) fn lex<'a>(text: &'a str, sink: &mut Sink<'_>) -> Text<'a> {
    let mut lexer = Lexer { stack: vec![Block { line: 0, name: "", items: Vec::new() }], too_deep: 0, sink };
    let mut lines = 0;
    for line in text.split('\n') {
        lines += 1;
        lexer.line(lines, line.split('#').next().unwrap_or(""));
    }
    let mut open = lexer.stack.into_iter();
    let items = open.next().map(|root| root.items).unwrap_or_default();
    Text { items, unclosed: open.map(|b| (b.line, b.name)).collect(), lines }
}

struct Lexer<'a, 's, 'f> {
    /// The blocks open at this point; the first is the text itself.
    stack: Vec<Block<'a>>,
    /// Open blocks beyond [`MAX_DEPTH`].
    too_deep: usize,
    sink: &'s mut Sink<'f>,
}

impl<'a> Lexer<'a, '_, '_> {
    fn line(&mut self, number: u32, line: &'a str) {
        let braces = pair_braces(line);
        let mut start = 0;
        let mut in_value = false;
        let mut next = 0;
        while let Some(&(at, partner)) = braces.get(next) {
            next += 1;
            let head = &line[start..at];
            if line.as_bytes()[at] == b'}' {
                self.entry(number, head);
                self.close(number);
            } else {
                in_value = in_value || head.contains('=');
                match partner {
                    Some(end) if in_value && !BLOCKS.contains(&last_word(head).1) => {
                        next = end + 1;
                        continue;
                    }
                    _ => self.open(number, head.trim()),
                }
            }
            start = at + 1;
            in_value = false;
        }
        self.entry(number, &line[start..]);
    }

    fn items(&mut self) -> Option<&mut Vec<Item<'a>>> {
        match self.too_deep {
            0 => self.stack.last_mut().map(|b| &mut b.items),
            _ => None,
        }
    }

    fn entry(&mut self, line: u32, text: &'a str) {
        let text = text.trim();
        if !text.is_empty()
            && let Some(items) = self.items()
        {
            items.push(Item::Entry(Entry { line, text }));
        }
    }

    fn open(&mut self, line: u32, header: &'a str) {
        if self.stack.len() > MAX_DEPTH {
            if self.too_deep == 0 {
                self.sink.warn(line, format!("blocks nested deeper than {MAX_DEPTH} have no effect"));
            }
            self.too_deep += 1;
            return;
        }
        let mut block = Block { line, name: header, items: Vec::new() };
        if header.is_empty() {
            // `name` alone on an earlier line.
            if let Some(items) = self.items()
                && let Some(&Item::Entry(entry)) = items.last()
                && is_word(entry.text)
            {
                items.pop();
                (block.line, block.name) = (entry.line, entry.text);
            }
        } else if header.contains('=') {
            let (before, name) = last_word(header);
            if BLOCKS.contains(&name) {
                self.entry(line, before);
                block.name = name;
            }
        }
        self.stack.push(block);
    }

    fn close(&mut self, line: u32) {
        if self.too_deep > 0 {
            self.too_deep -= 1;
        } else if self.stack.len() > 1
            && let Some(block) = self.stack.pop()
            && let Some(items) = self.items()
        {
            items.push(Item::Block(block));
        } else {
            self.sink.warn(line, format!("{} closes no block", quoted("}")));
        }
    }
}

/// The text before the last word, and the last word, of a line.
fn last_word(text: &str) -> (&str, &str) {
    let text = text.trim_end();
    let at = text
        .rfind(|c: char| c.is_whitespace() || c == '=' || c == '}')
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    text.split_at(at)
}

/// The braces of one line: each with its position and, for an opening one that closes on this line, the
/// index in the result of its partner.
fn pair_braces(line: &str) -> Vec<(usize, Option<usize>)> {
    let mut braces: Vec<(usize, Option<usize>)> = Vec::new();
    let mut open = Vec::new();
    for (at, byte) in line.bytes().enumerate() {
        if byte == b'{' {
            open.push(braces.len());
            braces.push((at, None));
        } else if byte == b'}' {
            if let Some(start) = open.pop() {
                braces[start].1 = Some(braces.len());
            }
            braces.push((at, None));
        }
    }
    braces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One item a line: `line:text`, blocks as `line:name{ … }`.
    fn show(items: &[Item<'_>]) -> String {
        items
            .iter()
            .map(|item| match item {
                Item::Entry(e) => format!("{}:{}", e.line, e.text),
                Item::Block(b) => format!("{}:{}{{{}}}", b.line, b.name, show(&b.items)),
            })
            .collect::<Vec<_>>()
            .join("|")
    }

    fn lexed(text: &str) -> String {
        show(&lex(text, &mut Sink::new("t")).items)
    }

    #[test]
    fn blocks_and_entries_keep_their_lines() {
        assert_eq!(lexed("a {\n x = 1\n b {\n y 2\n }\n}\n"), "1:a{2:x = 1|3:b{4:y 2}}");
        assert_eq!(lexed("mos\n\n {\n k = v\n}"), "1:mos{4:k = v}");
        assert_eq!(lexed("a { first = 1\n second = 2 }"), "1:a{1:first = 1|2:second = 2}");
        assert_eq!(lexed("a{b{c d}e}f{}"), "1:a{1:b{1:c d}|1:e}|1:f{}");
    }

    #[test]
    fn comments_go_to_the_end_of_the_line_and_hide_braces() {
        assert_eq!(lexed("a { # }\n x = 'y # z'\n} # end"), "1:a{2:x = 'y}");
        assert_eq!(lexed("a # name\n# between\n{ }"), "1:a{}");
    }

    #[test]
    fn carriage_returns_are_blanks() {
        assert_eq!(lexed("mos\r\n{\r\n a b\r\n}\r\n"), "1:mos{3:a b}");
    }

    #[test]
    fn balanced_braces_stay_in_a_value() {
        assert_eq!(lexed("a { run = x {y} {z{}} w }"), "1:a{1:run = x {y} {z{}} w}");
        assert_eq!(lexed("a { k = 0 netdev { lo 1 } }"), "1:a{1:k = 0|1:netdev{1:lo 1}}");
        assert_eq!(lexed("a {\n k = {\n x = 1\n }\n}"), "1:a{2:k ={3:x = 1}}");
    }

    /// Quadratic work on any of these takes minutes, linear work a fraction of a second.
    #[test]
    fn long_lines_take_no_quadratic_time() {
        let begin = std::time::Instant::now();
        for unit in ["={", "={}", "{}", "{", "}", "= {x}y", "netdev{", "a"] {
            lexed(&format!("k = {}", unit.repeat(500_000)));
            lexed(&unit.repeat(500_000));
        }
        assert!(begin.elapsed().as_secs() < 60);
    }

    #[test]
    fn odd_headers_make_blocks_of_no_known_name() {
        assert_eq!(lexed("two words {\n x = 1\n}"), "1:two words{2:x = 1}");
        assert_eq!(lexed("{ x = 1 }"), "1:{1:x = 1}");
        assert_eq!(lexed("a = 1\n{ x = 1 }"), "1:a = 1|2:{2:x = 1}");
    }

    #[test]
    fn unbalanced_braces_are_reported() {
        let mut sink = Sink::new("t");
        let text = lex("a {\n b {\n x\n", &mut sink);
        assert_eq!(text.unclosed, [(1, "a"), (2, "b")]);
        assert!(text.items.is_empty());
        lex("\n}\n", &mut sink);
        assert_eq!(sink.finish().1[0].to_string(), "t:2: `}` closes no block");
    }

    #[test]
    fn deep_nesting_is_skipped_and_the_rest_is_kept() {
        let text = format!("{}x{}\nafter {{ y }}", "b {".repeat(100_000), "}".repeat(100_000));
        let mut sink = Sink::new("t");
        let items = lex(&text, &mut sink).items;
        assert_eq!(items.len(), 2);
        assert_eq!(show(&items[1..]), "2:after{2:y}");
        assert_eq!(sink.finish().1.len(), 1);
    }
}
