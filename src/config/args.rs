//! Splits a command line into words, as the C function `StrToArgs` does (endpoint-io §1.4).
//!
//! Blanks separate words; `'…'` and `"…"` group, quotes are removed, there are no escapes, and each kind
//! of quote toggles also inside the other kind. `""` alone is an empty word.

/// The words of `text` up to its end or a NUL, at most `max`.
pub fn split_args(text: &str, max: usize) -> Vec<String> {
    let mut buf = Vec::with_capacity(text.len() + 1);
    buf.extend_from_slice(text.as_bytes());
    buf.push(0);
    let starts = split_in_place(&mut buf, max);
    let word = |start: usize| {
        let bytes = buf[start..].split(|&b| b == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    starts.into_iter().map(word).collect()
}

/// Splits a C string where it lies: every word is closed up over its quotes and ended by a NUL, and the
/// offset of each of the first `max` words is returned; text after them is left alone.
///
/// `buf` is the string with its NUL. A buffer without one loses its last byte to it, so that the words
/// are ended within the buffer in any case.
pub fn split_in_place(buf: &mut [u8], max: usize) -> Vec<usize> {
    let mut starts = Vec::new();
    let Some(last) = buf.last_mut() else { return starts };
    *last = 0;
    let (mut single, mut double) = (false, false);
    let mut in_word = false;
    // `write` never passes `read`: a word only shrinks.
    let mut write = 0;
    for read in 0..buf.len() {
        let byte = buf[read];
        let blank = byte.is_ascii_whitespace() || byte == 0x0b;
        if byte == 0 || (blank && !single && !double) {
            if in_word {
                buf[write] = 0;
                in_word = false;
            }
            if byte == 0 {
                break;
            }
            continue;
        }
        if !in_word {
            if starts.len() >= max {
                break;
            }
            in_word = true;
            write = read;
            starts.push(read);
        }
        match byte {
            b'\'' => single = !single,
            b'"' => double = !double,
            _ => {
                buf[write] = byte;
                write += 1;
            }
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blanks_separate_and_quotes_group() {
        assert_eq!(split_args("  a\tbb  c\n", 20), ["a", "bb", "c"]);
        assert_eq!(split_args("a 'b c' \"d  e\"", 20), ["a", "b c", "d  e"]);
        assert_eq!(split_args("a\"b c\"d e", 20), ["ab cd", "e"]);
        assert_eq!(split_args("a '' \"\"", 20), ["a", "", ""]);
        assert_eq!(split_args("", 20), [""; 0]);
        assert_eq!(split_args(" \r\n\x0b\x0c", 20), [""; 0]);
        assert_eq!(split_args("é 'ü ö'", 20), ["é", "ü ö"]);
    }

    #[test]
    fn a_quote_toggles_inside_the_other_kind() {
        assert_eq!(split_args("'a\"b' c\" d", 20), ["ab c", "d"]);
    }

    #[test]
    fn an_open_quote_groups_to_the_end() {
        assert_eq!(split_args("a 'b c", 20), ["a", "b c"]);
    }

    #[test]
    fn never_more_than_max_words() {
        assert_eq!(split_args("a b c d", 2), ["a", "b"]);
        assert_eq!(split_args("a b", 0), [""; 0]);
    }

    #[test]
    fn in_place_ends_every_word_and_leaves_the_rest() {
        let mut buf = *b"ab 'c d' e f\0";
        assert_eq!(split_in_place(&mut buf, 3), [0, 3, 9]);
        assert_eq!(&buf[..3], b"ab\0");
        assert_eq!(&buf[3..7], b"c d\0");
        assert_eq!(&buf[9..], b"e\0f\0");
        assert_eq!(split_in_place(&mut [], 3), [0usize; 0]);
    }

    #[test]
    fn text_after_the_nul_and_a_missing_nul() {
        let mut buf = *b"a\0b c\0";
        assert_eq!(split_in_place(&mut buf, 9), [0]);
        assert_eq!(&buf, b"a\0b c\0");
        let mut buf = *b"a bc";
        assert_eq!(split_in_place(&mut buf, 9), [0, 2]);
        assert_eq!(&buf, b"a\0b\0");
    }

    proptest! {
        #[test]
        fn any_bytes_split_into_ended_words(mut buf: Vec<u8>, max in 0usize..6) {
            let len = buf.len();
            let starts = split_in_place(&mut buf, max);
            prop_assert!(starts.len() <= max && starts.is_sorted());
            for start in starts {
                prop_assert!(start < len && buf[start..].contains(&0));
            }
        }

        #[test]
        fn plain_words_split_as_by_whitespace(text in "[a-z \t\n]{0,60}") {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            prop_assert_eq!(split_args(&text, 100), words);
        }

        #[test]
        fn quoting_is_undone(words in prop::collection::vec("[a-z #=]{0,8}", 0..6)) {
            let text = words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split_args(&text, 100), words);
        }
    }
}
