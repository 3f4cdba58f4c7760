//! Many JSON pointers (RFC 6901) into one document, found in one walk of it.
//!
//! Used at accept for every event that a meter counts, so the text is walked as it
//! stands: nothing is built of what lies beside the way, and what is found is given as
//! the publisher wrote it, numbers with all their digits. Each byte is looked at once,
//! however many pointers there are, however wide or deep the document is and however
//! often a name comes in it.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;

use super::pointer::Pointer;

/// The longest name of a member, as it is written, that a pointer's step can be: each
/// of its bytes escaped.
const NAME_BYTES_MAX: usize = 6 * super::pointer::LEN_MAX;

/// Pointers, joined where they lead the same way.
#[derive(Debug)]
pub struct PointerSet {
    /// The whole document first; each after the one it lies in.
    places: Vec<Place>,
    is_empty: bool,
}

/// A pointer of a [`PointerSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointerIndex(usize);

/// A place in a document that a pointer leads to or through.
#[derive(Debug, Default)]
struct Place {
    /// The place it lies in; of the whole document, itself.
    parent: usize,
    members: HashMap<Box<str>, usize>,
    elements: HashMap<usize, usize>,
}

impl Default for PointerSet {
    fn default() -> Self {
        Self {
            places: vec![Place::default()],
            is_empty: true,
        }
    }
}

impl PointerSet {
    /// Adds `pointer`. One that is there already has the same index.
    pub fn insert(&mut self, pointer: &Pointer) -> PointerIndex {
        self.is_empty = false;
        let mut place = 0;
        for step in pointer.steps() {
            place = match self.places[place].members.get(step) {
                Some(below) => *below,
                None => self.add(place, step),
            };
        }
        PointerIndex(place)
    }

    fn add(&mut self, parent: usize, step: &str) -> usize {
        let below = self.places.len();
        self.places.push(Place {
            parent,
            ..Place::default()
        });
        let parent = &mut self.places[parent];
        parent.members.insert(step.into(), below);
        parent
            .elements
            .extend(element_of(step).map(|at| (at, below)));
        below
    }

    /// How many places can be found: each [`PointerIndex::get`] is below.
    pub fn place_count(&self) -> usize {
        self.places.len()
    }

    /// What the pointers lead to in the JSON text `json`; nothing where it is none. Of
    /// members of the same name the last one is meant.
    pub fn resolve<'a>(&self, json: &'a str) -> ResolvedPointers<'a> {
        let mut walk = Walk {
            places: &self.places,
            json: json.as_bytes(),
            at: 0,
            found: vec![None; self.places.len()],
        };
        // Where no pointer leads there is nothing to look for.
        if !self.is_empty && walk.value_at(0).is_none() {
            walk.found.fill(None);
        }
        walk.forget_replaced();
        ResolvedPointers {
            json,
            bytes_read: walk.at,
            found: walk.found,
        }
    }
}

impl PointerIndex {
    /// Its place among those of its set.
    pub fn get(self) -> usize {
        self.0
    }
}

/// What the pointers of a set lead to in one document.
#[derive(Debug)]
pub struct ResolvedPointers<'a> {
    json: &'a str,
    bytes_read: usize,
    found: Vec<Option<Range<usize>>>,
}

impl<'a> ResolvedPointers<'a> {
    /// The JSON text that a pointer of the set leads to, if it leads anywhere.
    pub fn get(&self, pointer: PointerIndex) -> Option<&'a str> {
        self.json.get(self.found[pointer.0].clone()?)
    }

    /// How many bytes of the document were looked at.
    pub fn bytes_read(&self) -> usize {
        self.bytes_read
    }
}

/// The element that a step names (RFC 6901 §4): digits without a leading zero.
fn element_of(step: &str) -> Option<usize> {
    let is_plain = step == "0" || !step.starts_with(['0', '+']);
    step.parse().ok().filter(|_| is_plain)
}

/// A walk through a document, which only goes forward. `None` means that the document
/// is no JSON; what is JSON is not looked into further than it takes.
struct Walk<'a> {
    places: &'a [Place],
    json: &'a [u8],
    at: usize,
    /// Where the value at each place is: the last that was come upon.
    found: Vec<Option<Range<usize>>>,
}

impl Walk<'_> {
    /// Passes the value that is at `place`.
    fn value_at(&mut self, place: usize) -> Option<()> {
        self.skip_blank();
        let start = self.at;
        let Place {
            members, elements, ..
        } = &self.places[place];
        match self.json.get(self.at)? {
            b'{' if !members.is_empty() => self.members(members)?,
            b'[' if !elements.is_empty() => self.elements(elements)?,
            _ => self.skip_value()?,
        }
        self.found[place] = Some(start..self.at);
        Some(())
    }

    fn members(&mut self, wanted: &HashMap<Box<str>, usize>) -> Option<()> {
        self.at += 1;
        self.skip_blank();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            self.skip_blank();
            let name = self.skip_string()?;
            self.skip_blank();
            self.take(b':')?;
            match place_of(&self.json[name], wanted) {
                Some(place) => self.value_at(place)?,
                None => self.skip_value()?,
            }
            self.skip_blank();
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    fn elements(&mut self, wanted: &HashMap<usize, usize>) -> Option<()> {
        self.at += 1;
        self.skip_blank();
        if self.take(b']').is_some() {
            return Some(());
        }
        for index in 0.. {
            match wanted.get(&index) {
                Some(place) => self.value_at(*place)?,
                None => self.skip_value()?,
            }
            self.skip_blank();
            if self.take(b',').is_none() {
                break;
            }
        }
        self.take(b']')
    }

    /// Passes a value, whatever is in it.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.skip_blank();
            match self.json.get(self.at)? {
                b'"' => {
                    self.skip_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                // What is not there at all is no value.
                b',' | b':' if depth == 0 => return None,
                b',' | b':' => self.at += 1,
                _ => self.skip_literal(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes a number, `true`, `false` or `null`.
    fn skip_literal(&mut self) {
        let ends = |byte: &u8| b",:]} \t\r\n\"[{".contains(byte);
        let rest = &self.json[self.at..];
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
    }

    /// Passes a string; where it is, its quotes included.
    fn skip_string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            let rest = self.json.get(self.at..)?;
            self.at += rest.iter().position(|byte| b"\"\\".contains(byte))?;
            if self.take(b'"').is_some() {
                return Some(start..self.at);
            }
            // A backslash and what it escapes.
            self.at += 2;
        }
    }

    fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.json.get(self.at) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.json.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Forgets what was found in a member that another of its name replaced: it lies
    /// before it.
    fn forget_replaced(&mut self) {
        for (place, Place { parent, .. }) in self.places.iter().enumerate().skip(1) {
            let starts = |span: &Option<Range<usize>>| span.as_ref().map(|span| span.start);
            let parent = starts(&self.found[*parent]);
            if parent.is_none() || starts(&self.found[place]) < parent {
                self.found[place] = None;
            }
        }
    }
}

/// The place of the member whose name is `written`, in quotes.
fn place_of(written: &[u8], wanted: &HashMap<Box<str>, usize>) -> Option<usize> {
    if written.len() > NAME_BYTES_MAX + 2 {
        return None;
    }
    let inside = &written[1..written.len() - 1];
    if !inside.contains(&b'\\') {
        return wanted.get(std::str::from_utf8(inside).ok()?).copied();
    }
    let name: String = serde_json::from_slice(written).ok()?;
    wanted.get(&*name).copied()
}
