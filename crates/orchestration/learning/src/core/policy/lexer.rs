//! Text to tokens.

use super::{PolicyError, Span};

/// The longest name or text.
const WORD_CHARS_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// A number and its unit; without one the unit is empty.
    Number(f64, String),
    Text(String),
    /// Punctuation and operators.
    Mark(&'static str),
    End,
}

impl Token {
    /// For messages.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Number(number, unit) => format!("`{number}{unit}`"),
            Self::Text(text) => format!("the text \"{text}\""),
            Self::Mark(mark) => format!("`{mark}`"),
            Self::End => "the end of the policy".to_owned(),
        }
    }
}

/// Longer ones first.
const MARKS: [&str; 15] = [
    "==", "!=", "<=", ">=", "<", ">", "=", "(", ")", ",", ":", "+", "-", "*", "/",
];

pub(super) fn lex(text: &str) -> Result<Vec<(Token, Span)>, PolicyError> {
    let mut lexer = Lexer {
        rest: text,
        at: Span { line: 1, column: 1 },
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push((token, at));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    at: Span,
}

impl<'a> Lexer<'a> {
    fn token(&mut self) -> Result<Token, PolicyError> {
        let at = self.at;
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        if first.is_ascii_digit() {
            let number = self.take(|c| c.is_ascii_digit() || c == '.');
            let Some(value) = number.parse().ok().filter(|value: &f64| value.is_finite()) else {
                return Err(PolicyError::new(
                    at,
                    format!("`{}` is not a number", clip(number)),
                ));
            };
            let unit = self
                .take(|c| c.is_ascii_alphabetic() || c == '%')
                .to_owned();
            return Ok(Token::Number(value, unit));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let word = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
            if word.len() > WORD_CHARS_MAX {
                return Err(PolicyError::new(at, "this name is too long"));
            }
            return Ok(Token::Word(word.to_owned()));
        }
        if first == '"' {
            return self.text();
        }
        for mark in MARKS {
            if self.rest.starts_with(mark) {
                self.skip(mark.len());
                return Ok(Token::Mark(mark));
            }
        }
        Err(PolicyError::new(
            at,
            format!("the character {first:?} means nothing here"),
        ))
    }

    fn text(&mut self) -> Result<Token, PolicyError> {
        let at = self.at;
        self.skip(1);
        let text = self.take(|c| c != '"' && !c.is_control());
        if !self.rest.starts_with('"') {
            let message = "this text has no end: close it with \" on the same line";
            return Err(PolicyError::new(at, message));
        }
        if text.len() > WORD_CHARS_MAX {
            return Err(PolicyError::new(at, "this text is too long"));
        }
        self.skip(1);
        Ok(Token::Text(text.to_owned()))
    }

    fn skip_space(&mut self) {
        loop {
            self.take(char::is_whitespace);
            if !self.rest.starts_with('#') {
                return;
            }
            self.take(|c| c != '\n');
        }
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let taken = &self.rest[..end];
        self.skip(end);
        taken
    }

    fn skip(&mut self, len: usize) {
        for c in self.rest[..len].chars() {
            if c == '\n' {
                self.at.line += 1;
                self.at.column = 1;
            } else {
                self.at.column += 1;
            }
        }
        self.rest = &self.rest[len..];
    }
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}
