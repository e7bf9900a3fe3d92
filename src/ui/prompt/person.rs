//! A person for tests, with answers that are known before.

use std::io;

use super::Terminal;

/// Answers in order, and is shown everything; after the last answer the input is at its end.
pub(crate) struct Person {
    /// What is not asked for yet.
    pub(crate) answers: Vec<&'static str>,
    pub(crate) said: String,
}

impl Person {
    /// One with these answers.
    pub(crate) fn with(answers: &[&'static str]) -> Self {
        Self { answers: answers.to_vec(), said: String::new() }
    }
}

impl Terminal for Person {
    fn show(&mut self, text: &str) -> io::Result<()> {
        self.said += text;
        Ok(())
    }

    fn ask(&mut self, question: &str) -> io::Result<Option<String>> {
        self.show(question)?;
        if self.answers.is_empty() {
            return Ok(None);
        }
        let answer = self.answers.remove(0);
        self.said += &format!("{answer}\n");
        Ok(Some(format!("{answer}\n")))
    }
}
