//! A file of passwords that nobody may choose, of any size: searched on disk, never loaded.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Whether the file has the password on a line of its own.
///
/// # Errors
/// When the file cannot be read.
pub fn contains(path: &Path, password: &str) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        if line.trim_ascii_end() == password.as_bytes() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "password\r\nletmein\n").unwrap();
        assert!(contains(file.path(), "password").unwrap());
        assert!(contains(file.path(), "letmein").unwrap());
        assert!(!contains(file.path(), "letme").unwrap());
    }
}
