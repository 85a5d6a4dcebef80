//! The parser of route selection expressions: literal parts, variables, and errors.

use thiserror::Error;

use super::{cursor::Cursor, json_path::Path};

/// One piece of an expression. Two literals never follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(Box<str>),
    Variable(Path),
}

/// Parses a whole expression.
pub(super) fn parse(expression: &str) -> Result<Vec<Part>, InvalidExpression> {
    let mut cursor = Cursor::new(expression);
    let mut parts = Vec::new();
    let mut literal = String::new();
    while let Some(next) = cursor.peek() {
        if cursor.take(r"\$") {
            literal.push('$');
        } else if next == '$' {
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Variable(variable(&mut cursor)?));
        } else {
            literal.extend(cursor.next());
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    if parts.is_empty() {
        return Err(cursor.error(0, Reason::Empty));
    }
    Ok(parts)
}

/// Reads a variable, from its dollar sign to its end.
fn variable(cursor: &mut Cursor<'_>) -> Result<Path, InvalidExpression> {
    let start = cursor.offset();
    cursor.next();
    let form = if cursor.take("{") {
        Form::Braced
    } else {
        Form::Bare
    };
    if !cursor.take("request.body") || cursor.peek().is_some_and(|next| form.allows(next)) {
        return Err(unknown_variable(cursor, start, form));
    }
    let path = Path::parse(cursor, form)?;
    if form == Form::Braced && !cursor.take("}") {
        let unexpected = cursor.offset();
        return Err(match cursor.next() {
            Some(_) => cursor.error(unexpected, Reason::NotInName),
            None => cursor.error(start, Reason::OpenBrace),
        });
    }
    Ok(path)
}

/// Reads the rest of a name that is not `request.body`, and makes the error with its remedy.
fn unknown_variable(cursor: &mut Cursor<'_>, start: usize, form: Form) -> InvalidExpression {
    cursor.take_while(|next| next == '.' || form.allows(next));
    let mut error = cursor.error(start, Reason::UnknownVariable);
    let name = error.part.trim_start_matches(['$', '{']);
    error.reason = if name.is_empty() {
        match form {
            Form::Bare => Reason::BareDollar,
            Form::Braced => Reason::EmptyBraces,
        }
    } else if name.starts_with("request.header") {
        Reason::Header
    } else if name.starts_with("request.querystring") {
        Reason::QueryString
    } else {
        Reason::UnknownVariable
    };
    error
}

/// The form of a variable, which decides where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `$request.body.action`: ends before the first character that no name may hold.
    Bare,
    /// `${request.body.action}`: ends at the brace.
    Braced,
}

impl Form {
    /// Whether a name may hold `c` without quotes.
    ///
    /// Text may follow a bare variable at once (`$request.body.a/$request.body.b`), so that only
    /// letters, digits, `_` and `-` are part of it; braces leave more room.
    pub(super) fn allows(self, c: char) -> bool {
        match self {
            Self::Bare => c.is_alphanumeric() || matches!(c, '_' | '-'),
            Self::Braced => !c.is_whitespace() && !r#".,*?$\'"()[]{}"#.contains(c),
        }
    }
}

/// The error of a text that is no route selection expression.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("at character {position}, `{part}`: {reason}")]
pub(crate) struct InvalidExpression {
    /// The start of the part, in characters from 1.
    pub(crate) position: usize,
    /// The wrong part.
    pub(crate) part: String,
    /// The fault, with the remedy.
    pub(crate) reason: Reason,
}

/// The fault of a part, with the remedy.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Reason {
    #[error("an empty expression selects nothing; `$request.body.action` is the usual one")]
    Empty,
    #[error(r"a dollar sign begins a variable; write `\$` for the character itself")]
    BareDollar,
    #[error("the braces name no variable; write `${{request.body.action}}`")]
    EmptyBraces,
    #[error("a message has no headers; only request.body can select a route")]
    Header,
    #[error("a message has no query string; only request.body can select a route")]
    QueryString,
    #[error(r"only request.body can select a route; write `\$` for a literal dollar sign")]
    UnknownVariable,
    #[error("the brace is never closed; end the variable with `}}`")]
    OpenBrace,
    #[error(
        "a name belongs after the dot; end the variable with braces if the dot is text: `${{request.body.action}}.`"
    )]
    NoName,
    #[error("this is in no plain name; quote the name in brackets: `['user name']`")]
    NotInName,
    #[error(
        "a bracket holds quoted names, indices, slices or `*`, with commas between; end the variable with braces if the bracket is text"
    )]
    Bracket,
    #[error("the bracket is never closed; end it with `]`")]
    OpenBracket,
    #[error("the quotation is never closed; end it with the quote it began with")]
    OpenQuote,
    #[error(r"a quoted name escapes only quotes, `\` and `$`; write any other character as it is")]
    Escape,
    #[error("an index goes up to 9223372036854775807")]
    Index,
    #[error("a slice goes forwards; write a step of 1 or more, or none")]
    Step,
    #[error("filters and scripts are not supported; select by names and indices")]
    Filter,
    #[error("functions are not supported; end the variable with braces if the parenthesis is text")]
    Function,
}
