//! The one layout of a configuration: comments stay, words stay as written, white space is ours.

use crate::findings::{Findings, Sources};
use crate::mistake::Mistakes;
use crate::text::{self, Item, Statement, Tree, Word};

/// One step to the right.
const INDENT: &str = "    ";

/// `text` in the canonical layout: four spaces for each block, one statement on a line, at most one empty line.
pub fn format(name: &str, text: &str) -> Result<String, Mistakes> {
    let mut sources = Sources::default();
    let mut findings = Findings::default();
    let tree = text::parse(sources.next(), text, &mut findings);
    if findings.any_error() {
        sources.add(name.to_owned(), text.to_owned());
        return Err(Mistakes(findings.sort_out(&sources).0));
    }
    let mut printer = Printer { text, out: String::with_capacity(text.len() + text.len() / 4) };
    printer.tree(&tree, 0);
    Ok(printer.out)
}

struct Printer<'a> {
    text: &'a str,
    out: String,
}

impl Printer<'_> {
    fn tree(&mut self, tree: &Tree, depth: usize) {
        let mut blank = false;
        let mut previous: Option<&Item> = None;
        for item in &tree.items {
            match item {
                Item::Blank => {
                    blank = previous.is_some();
                    continue;
                }
                Item::Comment(comment) if comment.trailing && !blank && self.on_a_line(previous, depth) => {
                    self.out.pop();
                    self.out.push(' ');
                    self.out.push_str(&comment.text);
                    self.out.push('\n');
                }
                Item::Comment(comment) => {
                    self.start(blank, depth);
                    self.out.push_str(&comment.text);
                    self.out.push('\n');
                }
                Item::Statement(statement) => {
                    self.start(blank, depth);
                    self.statement(statement, depth);
                }
            }
            blank = false;
            previous = Some(item);
        }
    }

    /// Whether the line that was printed last can take a comment: it ends with a statement, or with the `{` of this block.
    fn on_a_line(&self, previous: Option<&Item>, depth: usize) -> bool {
        match previous {
            Some(Item::Statement(_)) => true,
            Some(_) => false,
            None => depth > 0,
        }
    }

    fn start(&mut self, blank: bool, depth: usize) {
        if blank {
            self.out.push('\n');
        }
        for _ in 0..depth {
            self.out.push_str(INDENT);
        }
    }

    fn statement(&mut self, statement: &Statement, depth: usize) {
        for (at, word) in statement.words.iter().enumerate() {
            if word.continued {
                self.out.push_str(" \\\n");
                self.start(false, depth + 1);
            } else if at > 0 {
                self.out.push(' ');
            }
            self.word(word);
        }
        match &statement.block {
            Some(tree) if tree.items.iter().all(|item| matches!(item, Item::Blank)) => {
                self.out.push_str(" {}")
            }
            Some(tree) => {
                self.out.push_str(" {\n");
                self.tree(tree, depth + 1);
                self.start(false, depth);
                self.out.push('}');
            }
            None => {}
        }
        self.out.push('\n');
    }

    fn word(&mut self, word: &Word) {
        let written = self.text.get(word.span.range()).unwrap_or("");
        if !written.ends_with('\\') {
            self.out.push_str(written);
            return;
        }
        // At the end of a line its `\` would continue it.
        if let Some(key) = &word.key {
            self.out.push_str(key);
            self.out.push('=');
        }
        self.out.push('"');
        self.out.push_str(&word.text.replace('\\', "\\\\"));
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn there_is_one_layout() {
        let ugly = "\n\n# top\n  pool   a{server 10.0.0.1:80;server 10.0.0.2:80 # second\n}\n\n\n\nsite * # any\nsite b {\n\n # in\n\n  route /x {} # nothing\n log access \\\n json  \\\n\n }\nrewrite a\\;x \"\"\"raw\n  text\"\"\" k=\"v w\" { # open\n\n}\n";
        let pretty = "# top\npool a {\n    server 10.0.0.1:80\n    server 10.0.0.2:80 # second\n}\n\nsite * # any\nsite b {\n    # in\n\n    route /x {} # nothing\n    log access \\\n        json\n}\nrewrite \"a\\\\\"\nx \"\"\"raw\n  text\"\"\" k=\"v w\" { # open\n}\n";
        assert_eq!(format("a", ugly).unwrap(), pretty);
        assert_eq!(format("a", pretty).unwrap(), pretty);
    }

    #[test]
    fn a_text_with_mistakes_is_left_alone() {
        assert_eq!(format("a", "site {").unwrap_err().0.len(), 1);
    }

    /// What a text means: its statements, without comments and empty lines.
    fn meaning(text: &str) -> Tree {
        fn strip(tree: &mut Tree) {
            tree.items.retain(|item| matches!(item, Item::Statement(_)));
            for item in &mut tree.items {
                if let Item::Statement(Statement { block: Some(block), .. }) = item {
                    strip(block);
                }
            }
        }
        let mut tree = text::parse(0, text, &mut Findings::default());
        strip(&mut tree);
        tree
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn formatting_keeps_the_meaning_and_ends(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "site", "a", "/x/*", "k=v", "k=", "k=\"v w\"", "\"q\\n\\\"\"", "\"\"\"raw\n{ text\"\"\"", "#", "# c",
                    "{", "}", "}", ";", "\n", "\n", "\n\n\n", " ", "  ", "\\\n", "\\\r\n", "\r\n", "\t", "a\\", "${x y}", "é", "a#b",
                ]),
                0..40,
            ),
        ) {
            let text = parts.concat();
            if let Ok(once) = format("a", &text) {
                prop_assert_eq!(meaning(&once), meaning(&text));
                prop_assert_eq!(format("a", &once).unwrap(), once);
            }
        }

        #[test]
        fn the_parser_never_panics(text in any::<String>(), near in "[a-z =\"\\\\#{};$\n\r~*/.é-]{0,200}") {
            for text in [text, near] {
                let _ = format("a", &text);
                let _ = crate::tests::load_test(&text);
            }
        }
    }
}
