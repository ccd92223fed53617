//! Where answers go: standard output, for people or programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

use super::args::Format;
use super::render::Look;

/// Why nothing more can be printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    /// The reader has gone (`| head`): not an error of ours.
    #[error("the reader has closed the pipe")]
    Closed,
    /// It cannot be written.
    #[error("cannot write the answer: {0}")]
    Io(io::Error),
    /// It cannot be put into the format.
    #[error("cannot format the answer: {0}")]
    Format(String),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Standard output in one format.
#[derive(Debug)]
pub(super) struct Output<W> {
    to: W,
    format: Format,
    colour: bool,
    columns: usize,
}

impl Output<io::Stdout> {
    /// To standard output; coloured on a terminal unless NO_COLOR is set (to anything but nothing).
    pub(super) fn standard(format: Format) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let to = io::stdout();
        Self {
            colour: to.is_terminal() && !no_colour,
            columns: Look::columns(terminal_size_of(&to).map(|(Width(columns), _)| columns.into())),
            to,
            format,
        }
    }
}

impl<W: Write> Output<W> {
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// How people's text is to look, as of now.
    pub(super) fn look(&self) -> Look {
        Look {
            now: jiff::Timestamp::now(),
            colour: self.colour,
            wide: self.format == Format::Wide,
            columns: self.columns,
        }
    }

    /// One answer: the document for programs, or the text for people.
    pub(super) fn answer<T: Serialize>(
        &mut self,
        document: &T,
        text: impl FnOnce(&Look) -> String,
    ) -> Result<(), PrintError> {
        let text = match self.format {
            Format::Table | Format::Wide => text(&self.look()),
            Format::Json => {
                let mut json = serde_json::to_string_pretty(document).map_err(|e| PrintError::Format(e.to_string()))?;
                json.push('\n');
                json
            }
            Format::Yaml => yaml(document)?,
        };
        self.write(&text)
    }

    /// One of many answers: a line of JSON, or a YAML document of its own.
    pub(super) fn event<T: Serialize>(
        &mut self,
        document: &T,
        text: impl FnOnce(&Look) -> String,
    ) -> Result<(), PrintError> {
        let text = match self.format {
            Format::Table | Format::Wide => text(&self.look()),
            Format::Json => {
                let mut json = serde_json::to_string(document).map_err(|e| PrintError::Format(e.to_string()))?;
                json.push('\n');
                json
            }
            Format::Yaml => format!("---\n{}", yaml(document)?),
        };
        self.write(&text)
    }

    /// A line that is for people alone; nothing where it is empty.
    pub(super) fn say(&mut self, text: &str) -> Result<(), PrintError> {
        if self.format.is_machine() || text.is_empty() {
            return Ok(());
        }
        self.write(&format!("{text}\n"))
    }

    fn write(&mut self, text: &str) -> Result<(), PrintError> {
        self.to.write_all(text.as_bytes())?;
        Ok(self.to.flush()?)
    }
}

fn yaml<T: Serialize>(document: &T) -> Result<String, PrintError> {
    let mut text = serde_saphyr::to_string(document).map_err(|e| PrintError::Format(e.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_told_from_a_full_disk() {
        let mut output = Output {
            to: Gone,
            format: Format::Json,
            colour: false,
            columns: 120,
        };
        assert!(matches!(
            output.answer(&"x", |_| String::new()),
            Err(PrintError::Closed)
        ));
        let full = PrintError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, PrintError::Io(_)));
    }

    #[test]
    fn events_are_one_json_document_a_line() {
        let mut written = Vec::new();
        let mut output = Output {
            to: &mut written,
            format: Format::Json,
            colour: false,
            columns: 120,
        };
        for value in [vec!["a\nb"], vec!["c"]] {
            assert!(output.event(&value, |_| String::new()).is_ok());
        }
        assert_eq!(written, b"[\"a\\nb\"]\n[\"c\"]\n");
    }

    /// Pages are full of quotes, colons and commands: whatever reads YAML must get the same text back.
    #[test]
    fn yaml_and_json_say_the_same() {
        for entry in cidrift_proto::catalogue::CATALOGUE {
            let text = yaml(entry).unwrap();
            let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, serde_json::to_value(entry).unwrap(), "{text}");
        }
    }
}
