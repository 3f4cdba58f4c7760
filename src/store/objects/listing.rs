//! The answer of `ListObjectsV2`: the names in it.

use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};

use crate::error::{Error, Result};

/// The names that `xml` lists, in their order.
///
/// # Errors
/// [`Error::Internal`] when it is no such answer.
pub(super) fn names(xml: &str) -> Result<Vec<String>> {
    read(xml).map_err(Error::internal)
}

fn read(xml: &str) -> Result<Vec<String>, XmlDecodeError> {
    let mut document = Document::new(xml);
    let mut root = document.root_element()?;
    if !root.start_el().matches("ListBucketResult") {
        return Err(XmlDecodeError::custom("expected a ListBucketResult"));
    }
    let mut names = vec![];
    while let Some(mut element) = root.next_tag() {
        if !element.start_el().matches("Contents") {
            continue;
        }
        while let Some(mut member) = element.next_tag() {
            if member.start_el().matches("Key") {
                names.push(try_data(&mut member)?.into_owned());
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_out_of_all_the_rest() {
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Name>bucket</Name><Prefix>events/</Prefix><Key>no object's</Key>
              <KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>
              <Contents><Key>events/a=1/x.gz</Key><Size>3</Size><Owner><ID>o</ID></Owner></Contents>
              <Contents><ETag>&quot;e&quot;</ETag><Key>events/a&amp;b.gz</Key></Contents>
            </ListBucketResult>"#;
        assert_eq!(names(xml).unwrap(), ["events/a=1/x.gz", "events/a&b.gz"]);
        let empty = "<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>";
        assert!(names(empty).unwrap().is_empty());
        for other in ["", "nothing", "<Error><Code>AccessDenied</Code></Error>"] {
            assert!(names(other).is_err(), "{other}");
        }
    }
}
