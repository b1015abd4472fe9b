//! What is too old, and what is too much.
//!
//! Each tier keeps its spans for so long ([`Keep`]); and all tiers together keep to a budget of pages, by giving up the
//! oldest span of the finest tier that has one, again and again. Points are made before raw samples go, if there is time:
//! the keeper rolls up a day before it gives up an hour of it.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::memory::Memory;
use super::rows::{
    DayRow, RowError, SpanRow, Tally, day_key, day_row, read_block_key, set_day_row, set_span_row,
    span_key, span_prefix, span_row,
};
use super::seal::{day_of, hour_of_day};
use super::{DAY_MS, Tier};
use crate::base::limits::DELETE_ROWS_MAX;
use crate::store::{Flow, KeyRange, Order, Read, Table, Write};

/// For how long, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Raw samples.
    pub raw: Duration,
    /// Points of five minutes.
    pub r5m: Duration,
    /// Points of an hour.
    pub r1h: Duration,
    /// Points of a day.
    pub r1d: Duration,
    /// Bytes of pages for all of it.
    pub budget: u64,
}

impl Keep {
    /// How long a tier is kept.
    pub const fn of(&self, tier: Tier) -> Duration {
        match tier {
            Tier::Raw => self.raw,
            Tier::FiveMinutes => self.r5m,
            Tier::Hour => self.r1h,
            Tier::Day => self.r1d,
        }
    }
}

/// Why a span goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is too old.
    Age,
    /// There is no room.
    Budget,
}

/// The next span that goes, when `coming` more bytes of pages are about to be written. Nothing goes for what would not fit
/// into the whole budget. Without a moment nothing goes because of its age.
pub fn due(
    memory: &Memory,
    keep: &Keep,
    now_ms: Option<i64>,
    coming: u64,
) -> Option<(Tier, u32, Why)> {
    let oldest = |tier: &Tier| Some((*tier, first_span(memory, *tier)?));
    let aged = Tier::ALL.iter().filter_map(oldest).find(|(tier, span)| {
        let keep_ms = i64::try_from(keep.of(*tier).as_millis()).unwrap_or(i64::MAX);
        tier.span_start(*span).saturating_add(tier.span_ms()).saturating_add(keep_ms)
            <= now_ms.unwrap_or(i64::MIN)
    });
    if let Some((tier, span)) = aged {
        return Some((tier, span, Why::Age));
    }
    let short = coming <= keep.budget && !fits(memory, keep, coming);
    let finest = if short { Tier::ALL.iter().find_map(oldest) } else { None };
    finest.map(|(tier, span)| (tier, span, Why::Budget))
}

/// Whether `coming` more bytes of pages fit into the budget.
pub fn fits(memory: &Memory, keep: &Keep, coming: u64) -> bool {
    memory.live_bytes().saturating_add(coming) <= keep.budget
}

/// Bytes of pages that rows of a group in a span take, ascending.
pub fn room_for(rows: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    let mut tally = Tally::default();
    for (key, value) in rows {
        tally.add(key, value.len());
    }
    tally.sum.pages
}

fn first_span(memory: &Memory, tier: Tier) -> Option<u32> {
    memory.spans.range((tier, 0)..=(tier, u32::MAX)).next().map(|((_, span), _)| *span)
}

/// Removes rows of a span, so many at most, groups as a whole as far as that goes; what it holds then, `None` when it is gone.
/// One operation of the writer.
pub fn commit(tx: &mut dyn Write, tier: Tier, span: u32) -> Result<Option<SpanRow>, RowError> {
    let range = KeyRange::prefix(&span_prefix(span));
    let (gone, more) = first_groups(&*tx, tier.table(), &range)?;
    tx.delete_range(tier.table(), &range, gone.rows)?;
    if tier == Tier::Raw {
        cut_day(tx, span)?;
    }
    if more {
        let row = span_row(&*tx, tier, span)?.minus(gone);
        // There is more, whatever the row said before.
        let row = SpanRow { rows: row.rows.max(1), ..row };
        set_span_row(tx, (tier, span), row)?;
        return Ok(Some(row));
    }
    set_span_row(tx, (tier, span), SpanRow::default())?;
    for day in days_of(tier, span) {
        if !is_held(&*tx, day)? {
            tx.delete(Table::Meta, &day_key(day))?;
        }
    }
    Ok(None)
}

/// The rows that go at once, and whether there are more of them: whole groups, unless the first is too large for that.
fn first_groups(
    view: &dyn Read,
    table: Table,
    range: &KeyRange,
) -> Result<(SpanRow, bool), RowError> {
    let (mut tally, mut whole, mut last, mut more) =
        (Tally::amid(), SpanRow::default(), None, false);
    view.scan(table, range, Order::Forward, &mut |key, value| {
        let group = read_block_key(key).ok().map(|(_, group, ..)| group);
        if group != last {
            (whole, last) = (tally.sum, group);
        }
        more = tally.sum.rows == DELETE_ROWS_MAX;
        if more {
            return Flow::Stop;
        }
        tally.add(key, value.len());
        Flow::On
    })?;
    Ok((if more && 0 < whole.rows { whole } else { tally.sum }, more))
}

/// Notes that the points of an hour, and of those before it in its day, cannot be computed anew any more: the oldest goes
/// first.
fn cut_day(tx: &mut dyn Write, hour: u32) -> Result<(), RowError> {
    let row = day_row(&*tx, day_of(hour))?.unwrap_or(DayRow { valid: false, cut: 0 });
    let cut = hour_of_day(hour) + 1;
    if cut <= row.cut { Ok(()) } else { set_day_row(tx, day_of(hour), DayRow { cut, ..row }) }
}

/// The days of a span.
fn days_of(tier: Tier, span: u32) -> Range<u32> {
    let day = |at_ms: i64| u32::try_from(at_ms / DAY_MS).unwrap_or(u32::MAX);
    let start = tier.span_start(span);
    day(start)..day(start + tier.span_ms() - 1).saturating_add(1)
}

/// The spans of a tier in which samples or points of a day may lie.
fn spans_of(tier: Tier, day: u32) -> RangeInclusive<u32> {
    let start = i64::from(day) * DAY_MS;
    tier.span_of(start)..=tier.span_of(start + DAY_MS - 1)
}

/// Whether there is anything of a day: as long it is worth knowing whether its points are valid.
fn is_held(view: &dyn Read, day: u32) -> Result<bool, RowError> {
    let mut found = false;
    for tier in Tier::ALL {
        let spans = spans_of(tier, day);
        let from = span_key(tier, *spans.start());
        let to = span_key(tier, spans.end().saturating_add(1));
        view.scan(Table::Spans, &KeyRange::between(&from, &to), Order::Forward, &mut |_, _| {
            found = true;
            Flow::Stop
        })?;
    }
    Ok(found)
}

impl Memory {
    /// When the newest hour of which anything is known ends.
    pub fn newest_ms(&self) -> Option<i64> {
        let sealed =
            self.spans.range(..(Tier::FiveMinutes, 0)).next_back().map(|((_, hour), _)| *hour);
        let open = self.opens.keys().chain(self.sealing.keys()).map(|(hour, _)| *hour).max();
        let end = |hour: u32| Tier::Raw.span_start(hour) + Tier::Raw.span_ms();
        sealed.max(open).map(end)
    }

    /// Rows of a span were removed by a commit.
    pub fn expired(&mut self, tier: Tier, span: u32, left: Option<SpanRow>) {
        self.set_span((tier, span), left.unwrap_or_default());
        if left.is_some() {
            return;
        }
        for day in days_of(tier, span) {
            let is_held = |tier: &Tier| {
                let spans = spans_of(*tier, day);
                let mut held = self.spans.range((*tier, *spans.start())..=(*tier, *spans.end()));
                held.next().is_some()
            };
            if !Tier::ALL.iter().any(is_held) {
                self.rolled.remove(&day);
            }
        }
    }

    /// Bytes of the pages that everything takes.
    pub fn live_bytes(&self) -> u64 {
        self.spans.values().fold(0, |sum, row| sum.saturating_add(row.pages))
    }
}

#[cfg(test)]
mod tests;
