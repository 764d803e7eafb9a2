//! What a point is to do: `term -> term -> ...`, written without the spaces.
//!
//! A term is an action behind any number of conditions: `3*` is true three times, `12.5%` by chance. Each time
//! the point is passed, the first term of the chain acts whose conditions are all true.

use std::time::Duration;

use crate::{Error, duration};

/// What passing a point does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing, and no later term either.
    Off,
    /// A line in the log.
    Print,
    /// The thread waits.
    Sleep(Duration),
    /// Whoever passes is given this value.
    Return(String),
    /// The process ends, for this reason.
    Panic(String),
}

/// The terms of a point, and how far their counts are used up.
#[derive(Debug)]
pub(crate) struct Terms {
    text: String,
    chain: Vec<Term>,
    acted: u64,
}

#[derive(Debug)]
struct Term {
    conditions: Vec<Condition>,
    action: Action,
}

#[derive(Debug)]
enum Condition {
    /// So many times more.
    Times(u64),
    /// In so many cases of one.
    Chance(f64),
}

impl Terms {
    /// Reads terms and nothing else.
    pub(crate) fn parse(text: &str) -> Result<Terms, Error> {
        let mut reader = Reader::new(text.trim());
        let terms = reader.terms()?;
        if reader.rest.is_empty() { Ok(terms) } else { Err(reader.expected("-> or the end")) }
    }

    /// Reads `name=terms;name=terms`. Nothing at all is no point.
    pub(crate) fn parse_named(text: &str) -> Result<Vec<(String, Terms)>, Error> {
        let mut reader = Reader::new(text.trim());
        let mut named = Vec::new();
        while !reader.rest.is_empty() {
            let name = reader.word();
            if name.is_empty() || !reader.take("=") {
                return Err(reader.expected("NAME="));
            }
            named.push((name.to_owned(), reader.terms()?));
            if !reader.take(";") && !reader.rest.is_empty() {
                return Err(reader.expected("->, ; or the end"));
            }
        }
        Ok(named)
    }

    /// As they were written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How often one of them has acted.
    pub(crate) fn acted(&self) -> u64 {
        self.acted
    }

    /// The point is passed. `random` draws from [0, 1).
    pub(crate) fn pass(&mut self, random: &mut dyn FnMut() -> f64) -> Option<Action> {
        for term in &mut self.chain {
            if term.conditions.iter_mut().all(|condition| condition.holds(random)) {
                self.acted += 1;
                return Some(term.action.clone());
            }
        }
        None
    }
}

impl Condition {
    /// Whether it is true this time.
    fn holds(&mut self, random: &mut dyn FnMut() -> f64) -> bool {
        match self {
            Condition::Times(0) => false,
            Condition::Times(left) => {
                *left -= 1;
                true
            }
            Condition::Chance(chance) => random() < *chance,
        }
    }
}

/// What stands in an action's parentheses.
enum Value {
    Nothing,
    Text(String),
    Number(u64),
    Bool(bool),
}

/// Reads from the front of a text.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Reader<'a> {
        Reader { text, rest: text }
    }

    fn terms(&mut self) -> Result<Terms, Error> {
        let begin = self.rest;
        let mut chain = vec![self.term()?];
        while self.take("->") {
            chain.push(self.term()?);
        }
        let text = begin[..begin.len() - self.rest.len()].to_owned();
        Ok(Terms { text, chain, acted: 0 })
    }

    fn term(&mut self) -> Result<Term, Error> {
        let mut conditions = Vec::new();
        while self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            conditions.push(self.condition()?);
        }
        Ok(Term { conditions, action: self.action()? })
    }

    fn condition(&mut self) -> Result<Condition, Error> {
        let number = self.run(|c| c.is_ascii_digit() || c == '.');
        if self.take("*") {
            return number.parse().map(Condition::Times).map_err(|_| self.expected("a whole number before *"));
        }
        let percent = number.parse::<f64>().ok().filter(|percent| *percent <= 100.0);
        if !self.take("%") {
            return Err(self.expected("* or %"));
        }
        percent.map(|percent| Condition::Chance(percent / 100.0)).ok_or_else(|| self.expected("0 to 100 before %"))
    }

    fn action(&mut self) -> Result<Action, Error> {
        let begin = self.rest;
        let name = self.run(|c| c.is_ascii_alphabetic());
        let value = self.value()?;
        Ok(match (name, value) {
            ("off", _) => Action::Off,
            ("print", _) => Action::Print,
            ("panic", value) => Action::Panic(value.into_text()),
            ("return", value) => Action::Return(value.into_text()),
            ("sleep", Value::Number(ms)) => Action::Sleep(Duration::from_millis(ms)),
            ("sleep", Value::Text(text)) => {
                let time = duration::parse(&text);
                Action::Sleep(time.ok_or_else(|| self.refuse(begin, "a time such as \"1s\""))?)
            }
            ("sleep", _) => return Err(self.refuse(begin, "sleep(MILLISECONDS) or sleep(\"1s\")")),
            _ => return Err(self.refuse(begin, "off, print, panic, return or sleep")),
        })
    }

    fn value(&mut self) -> Result<Value, Error> {
        if !self.take("(") {
            return Ok(Value::Nothing);
        }
        let value = if self.rest.starts_with('"') {
            Value::Text(self.quoted()?)
        } else if self.rest.starts_with(')') {
            Value::Nothing
        } else {
            match self.run(|c| c.is_ascii_alphanumeric()) {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                number => {
                    Value::Number(number.parse().map_err(|_| self.expected("a number, \"text\", true or false"))?)
                }
            }
        };
        if self.take(")") { Ok(value) } else { Err(self.expected(")")) }
    }

    /// A text in quotes, as Go writes it, as far as anybody needs it.
    fn quoted(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, char @ ('"' | '\\'))) => text.push(char),
                    _ => return Err(self.expected("a text whose escapes are \\\", \\\\, \\n and \\t")),
                },
                char => text.push(char),
            }
        }
        Err(self.expected("a text that ends"))
    }

    fn word(&mut self) -> &'a str {
        self.run(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// As many characters as are such.
    fn run(&mut self, is_such: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_such(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expected(&self, expected: &'static str) -> Error {
        self.refuse(self.rest, expected)
    }

    fn refuse(&self, rest: &str, expected: &'static str) -> Error {
        Error::Malformed { text: self.text.to_owned(), rest: rest.to_owned(), expected }
    }
}

impl Value {
    fn into_text(self) -> String {
        match self {
            Value::Nothing => String::new(),
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(bool) => bool.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn never() -> impl FnMut() -> f64 {
        || panic!("no chance was asked for")
    }

    /// What so many passes do.
    fn passes(text: &str, count: usize) -> Vec<Option<Action>> {
        let mut terms = Terms::parse(text).unwrap();
        (0..count).map(|_| terms.pass(&mut never())).collect()
    }

    #[test]
    fn each_action_is_read() {
        let sleep = |ms| Action::Sleep(Duration::from_millis(ms));
        for (text, action) in [
            ("off", Action::Off),
            ("print", Action::Print),
            ("print()", Action::Print),
            ("panic", Action::Panic(String::new())),
            ("panic()", Action::Panic(String::new())),
            (r#"panic("because")"#, Action::Panic("because".into())),
            (r#"sleep("1s")"#, sleep(1000)),
            ("sleep(1000)", sleep(1000)),
            (r#"return("x")"#, Action::Return("x".into())),
            (r#"return("a\"b\\\n;->)")"#, Action::Return("a\"b\\\n;->)".into())),
            ("return(7)", Action::Return("7".into())),
            ("return(true)", Action::Return("true".into())),
            ("return", Action::Return(String::new())),
            (" panic\n", Action::Panic(String::new())),
        ] {
            assert_eq!(passes(text, 1), [Some(action)], "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            " ",
            "explode",
            "break",
            "panics",
            "panic panic",
            "panic->",
            "->panic",
            "panic;panic",
            "sleep",
            "sleep()",
            "sleep(true)",
            "sleep(-1)",
            r#"sleep("soon")"#,
            r#"return("x"#,
            r#"return("x\q")"#,
            "return(x)",
            "return(1",
            "1panic",
            "1.5*panic",
            "101%panic",
            "1.2.3%panic",
            "99999999999999999999999*panic",
            "3*",
            "50%",
        ] {
            let error = Terms::parse(text).unwrap_err();
            assert!(matches!(&error, Error::Malformed { text: all, .. } if all == text.trim()), "{text}: {error}");
        }
    }

    #[test]
    fn counts_run_out_and_chains_go_on() {
        let (print, off, value) = (Some(Action::Print), Some(Action::Off), Some(Action::Return("x".into())));
        assert_eq!(passes("2*print", 4), [print.clone(), print.clone(), None, None]);
        let chain = r#"1*off->2*return("x")->print"#;
        assert_eq!(passes(chain, 5), [off, value.clone(), value, print.clone(), print]);
        let mut terms = Terms::parse("2*off->1*print").unwrap();
        (0..9).for_each(|_| drop(terms.pass(&mut never())));
        assert_eq!((terms.acted(), terms.text()), (3, "2*off->1*print"));
    }

    #[test]
    fn chance_is_as_large_as_it_says() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut count = |text: &str| {
            let mut terms = Terms::parse(text).unwrap();
            (0..10_000).filter(|_| terms.pass(&mut || rng.random()) == Some(Action::Print)).count()
        };
        assert!((2_350..2_650).contains(&count("25%print")));
        assert!((550..700).contains(&count("6.25%print")));
        assert_eq!((count("0%print"), count("100%print")), (0, 10_000));
        // The rest goes on along the chain.
        assert!((4_800..5_200).contains(&count("50.0%off->print")));
        // A count behind a chance is used up only when that is met, one before it each time.
        assert_eq!(count("50%3*print"), 3);
        assert!(count("10*50%print") < 10);
    }

    #[test]
    fn several_points_are_read_at_once() {
        let read = |text: &str| {
            let named = Terms::parse_named(text)?;
            Ok::<_, Error>(named.into_iter().map(|(name, terms)| (name, terms.text().to_owned())).collect::<Vec<_>>())
        };
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read("a=panic").unwrap(), [pair("a", "panic")]);
        let two = r#"a=1*print->return("x;y=z");b=sleep(1);"#;
        assert_eq!(read(two).unwrap(), [pair("a", r#"1*print->return("x;y=z")"#), pair("b", "sleep(1)")]);
        for text in ["a", "a=", "=panic", "a=panic,b=panic", "a=panic;;", ";", "a b=panic"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
