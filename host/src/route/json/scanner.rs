//! A reader of strict JSON (RFC 8259) that finds where values begin and end, and nothing else.

use std::ops::Range;

/// A text that is not JSON, or whose nesting makes it too costly to read.
#[derive(Clone, Copy, Debug)]
pub(in crate::route) struct NotJson;

/// Limit of nested arrays and objects: as many as serde_json reads when it builds a tree.
pub(super) const MAX_DEPTH: u32 = 127;

/// The place of a value in the text.
pub(super) type Span = Range<usize>;

/// The place of a string, with its quotes.
#[derive(Clone)]
pub(super) struct StringSpan {
    pub(super) span: Span,
    /// Whether there is an escape in it.
    pub(super) escaped: bool,
}

/// A child of an object or an array.
pub(super) enum Child {
    Member(StringSpan, Span),
    Element(Span),
}

/// Reads a text from its start to its end.
pub(super) struct Scanner<'m> {
    bytes: &'m [u8],
    at: usize,
}

impl<'m> Scanner<'m> {
    pub(super) fn new(text: &'m str) -> Self {
        let bytes = text.as_bytes();
        Self { bytes, at: 0 }
    }

    /// Reads the space behind the value of the text, and fails if there is more.
    pub(super) fn end(&mut self) -> Result<(), NotJson> {
        match self.past_space() {
            None => Ok(()),
            Some(_) => Err(NotJson),
        }
    }

    /// Reads a value and passes its children to `each`.
    pub(super) fn children(&mut self, mut each: impl FnMut(Child)) -> Result<(), NotJson> {
        let close = match self.past_space() {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => return self.value(0).map(drop),
        };
        self.at += 1;
        if self.past_space() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            each(if close == b'}' {
                let name = self.name()?;
                Child::Member(name, self.child(1)?)
            } else {
                Child::Element(self.child(1)?)
            });
            let next = self.past_space();
            self.at += 1;
            match next {
                Some(b',') => {}
                Some(end) if end == close => return Ok(()),
                _ => return Err(NotJson),
            }
        }
    }

    /// Reads a value inside `outer` arrays and objects; most are strings.
    #[inline(always)]
    fn child(&mut self, outer: u32) -> Result<Span, NotJson> {
        if self.past_space() == Some(b'"') {
            return Ok(self.string()?.span);
        }
        self.value(outer)
    }

    /// Reads a value inside `outer` arrays and objects.
    pub(super) fn value(&mut self, outer: u32) -> Result<Span, NotJson> {
        let mut next = self.past_space();
        let start = self.at;
        // The arrays and objects that are open. Of each a bit tells whether it is an object, the lowest of the innermost.
        let (mut depth, mut objects) = (outer, 0_u128);
        loop {
            match next {
                Some(b'"') => {
                    self.string()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    if depth == MAX_DEPTH {
                        return Err(NotJson);
                    }
                    depth += 1;
                    objects = objects << 1 | u128::from(open == b'{');
                    self.at += 1;
                    next = self.past_space();
                    // One that is empty is closed below.
                    if !matches!(next, Some(b'}' | b']')) {
                        next = self.inner_value(objects)?;
                        continue;
                    }
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => return Err(NotJson),
            }
            // A value is over, or an object or array has just begun and is empty.
            loop {
                if depth == outer {
                    return Ok(start..self.at);
                }
                let close = if objects & 1 == 1 { b'}' } else { b']' };
                match self.past_space() {
                    Some(b',') => {
                        self.at += 1;
                        next = self.inner_value(objects)?;
                        break;
                    }
                    Some(end) if end == close => {
                        self.at += 1;
                        depth -= 1;
                        objects >>= 1;
                    }
                    _ => return Err(NotJson),
                }
            }
        }
    }

    /// Reads the name of a member, if the innermost of `objects` is one. Gives the first byte of the value.
    fn inner_value(&mut self, objects: u128) -> Result<Option<u8>, NotJson> {
        if objects & 1 == 1 {
            self.name()?;
        }
        Ok(self.past_space())
    }

    /// Reads the name of a member, and the colon.
    #[inline(always)]
    fn name(&mut self) -> Result<StringSpan, NotJson> {
        if self.past_space() != Some(b'"') {
            return Err(NotJson);
        }
        let name = self.string()?;
        if self.past_space() != Some(b':') {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(name)
    }

    /// Reads a string, which begins here.
    #[inline(always)]
    fn string(&mut self) -> Result<StringSpan, NotJson> {
        let (start, mut escaped) = (self.at, false);
        self.at += 1;
        loop {
            self.at += plain_characters(self.bytes.get(self.at..).unwrap_or_default());
            let special = self.peek();
            self.at += 1;
            match special {
                Some(b'"') => {
                    let span = start..self.at;
                    return Ok(StringSpan { span, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(NotJson),
            }
        }
    }

    /// Reads the rest of an escape.
    fn escape(&mut self) -> Result<(), NotJson> {
        let next = self.peek();
        self.at += 1;
        match next {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.bytes.get(self.at..self.at + 4);
                let hex = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                self.at += 4;
                hex.then_some(()).ok_or(NotJson)
            }
            _ => Err(NotJson),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), NotJson> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += literal.len();
        rest.starts_with(literal).then_some(()).ok_or(NotJson)
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads digits; at least one.
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then_some(()).ok_or(NotJson)
    }

    /// Passes space, and gives the next byte.
    #[inline(always)]
    fn past_space(&mut self) -> Option<u8> {
        loop {
            let next = self.peek();
            if !matches!(next, Some(b' ' | b'\t' | b'\n' | b'\r')) {
                return next;
            }
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// Bytes of a string that is short. The rest of a long one is looked at in larger steps, which take longer to begin.
const SHORT: usize = 64;

/// Counts the bytes in front of the first quote, backslash or control character.
#[inline]
fn plain_characters(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special_in(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
        if at == SHORT {
            let (blocks, _) = bytes.get(at..).unwrap_or_default().as_chunks();
            at += 32 * blocks.iter().take_while(|block| is_plain(block)).count();
        }
    }
    at + up_to_special(bytes.get(at..).unwrap_or_default())
}

fn up_to_special(bytes: &[u8]) -> usize {
    let special = bytes.iter().position(|byte| is_special(*byte));
    special.unwrap_or(bytes.len())
}

/// The highest bit of each byte that is special. Those above the first may be wrong.
fn special_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    const HIGHEST: u64 = ONES << 7;
    let less = |word: u64, than: u64| word.wrapping_sub(than) & !word;
    (less(word, SPACES) | less(word ^ QUOTES, ONES) | less(word ^ BACKSLASHES, ONES)) & HIGHEST
}

/// Looks at all bytes, so that the compiler takes many at once.
fn is_plain(block: &[u8; 32]) -> bool {
    !block
        .iter()
        .fold(false, |special, byte| special | is_special(*byte))
}

fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}
