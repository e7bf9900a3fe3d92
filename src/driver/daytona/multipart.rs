//! Files as the body of an upload: `multipart/form-data`, by hand because nothing else needs it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::driver::DriverError;
use crate::driver::http::unique;

/// A body and its `Content-Type`.
pub(super) struct Form {
    pub(super) body: Bytes,
    pub(super) content_type: String,
}

/// The files, each with its path before its content: so Daytona streams it to its place.
///
/// # Errors
/// Without random bytes for a boundary.
pub(super) fn form(files: &[(String, Bytes)]) -> Result<Form, DriverError> {
    Ok(form_with(&unique()?, files))
}

fn form_with(boundary: &str, files: &[(String, Bytes)]) -> Form {
    let length: usize = files.iter().map(|(path, content)| path.len() + content.len() + 512).sum();
    let mut body = BytesMut::with_capacity(length + 64);
    for (index, (path, content)) in files.iter().enumerate() {
        let text = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"files[{index}].path\"\r\n\r\n\
             {path}\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"files[{index}].file\"; filename=\"{index}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.put_slice(text.as_bytes());
        body.put_slice(content);
        body.put_slice(b"\r\n");
    }
    body.put_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={boundary}");
    Form { body: body.freeze(), content_type }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_before_its_content() {
        let files = [
            ("/a b".to_owned(), Bytes::from_static(b"\0\r\n--x")),
            ("/c".to_owned(), Bytes::new()),
        ];
        let Form { body, content_type } = form_with("B", &files);
        assert_eq!(content_type, "multipart/form-data; boundary=B");
        let expected = "--B\r\nContent-Disposition: form-data; name=\"files[0].path\"\r\n\r\n/a b\r\n\
            --B\r\nContent-Disposition: form-data; name=\"files[0].file\"; filename=\"0\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n\0\r\n--x\r\n\
            --B\r\nContent-Disposition: form-data; name=\"files[1].path\"\r\n\r\n/c\r\n\
            --B\r\nContent-Disposition: form-data; name=\"files[1].file\"; filename=\"1\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n\r\n--B--\r\n";
        assert_eq!(body, expected.as_bytes());
        let (one, other) = (form(&files).expect("random"), form(&files).expect("random"));
        assert_ne!(one.content_type, other.content_type);
    }
}
