//! The period that an overview is of, and what its parts share.

use jiff::SignedDuration;
use serde::Deserialize;

use crate::console::pairs::href;
use crate::console::visit::View;

/// How long ago what is shown began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    Hour,
    Day,
    Week,
    Month,
}

impl Period {
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// That of the query; a day if it names none.
    pub fn of(view: &View) -> Self {
        let named = |period: &Self| view.query.get("period") == Some(period.name());
        Self::ALL.into_iter().find(named).unwrap_or(Self::Day)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "1 h",
            Self::Day => "24 h",
            Self::Week => "7 d",
            Self::Month => "30 d",
        }
    }

    /// How it is called when it is over.
    pub fn before(self) -> &'static str {
        match self {
            Self::Hour => "the hour before",
            Self::Day => "the day before",
            Self::Week => "the week before",
            Self::Month => "the 30 days before",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Hour => "Last hour",
            Self::Day => "Last 24 hours",
            Self::Week => "Last 7 days",
            Self::Month => "Last 30 days",
        }
    }

    /// The API's name of the windows that it is shown by.
    pub fn window(self) -> &'static str {
        match self {
            Self::Hour => "5m",
            Self::Day => "hour",
            Self::Week => "6h",
            Self::Month => "day",
        }
    }

    pub fn span(self) -> SignedDuration {
        SignedDuration::from_hours(match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
        })
    }
}

/// A page of a list of the API.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub data: Vec<T>,
}

/// The address of a part of the page, of the period that is shown.
pub(super) fn part_path(view: &View, part: &str) -> String {
    let period = view.query.get("period");
    href(&view.path(""), &[("part", Some(part)), ("period", period)])
}
