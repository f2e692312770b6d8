//! The figures, side by side: the median of all rounds, and oxim's as a ratio of Exim's.

use super::server::Program;

/// Rows of figures, one column for each program.
pub struct Table {
    names: Vec<&'static str>,
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

impl Table {
    /// An empty table for these programs.
    pub fn new(programs: &[Program]) -> Self {
        Self { names: programs.iter().map(|program| program.name).collect(), rows: Vec::new() }
    }

    /// Adds one measurement.
    pub fn add(&mut self, program: &Program, what: &str, figure: f64) {
        let column = self.names.iter().position(|name| *name == program.name).unwrap_or(0);
        let width = self.names.len();
        let index = self.rows.iter().position(|(name, _)| name == what).unwrap_or_else(|| {
            self.rows.push((what.to_owned(), vec![Vec::new(); width]));
            self.rows.len() - 1
        });
        self.rows[index].1[column].push(figure);
    }

    /// Adds a count, if it could be taken.
    pub fn add_count(&mut self, program: &Program, what: &str, figure: Option<f64>) {
        if let Some(figure) = figure {
            self.add(program, what, figure);
        }
    }

    /// Prints the table.
    pub fn print(&self) {
        print!("{:48}", "");
        self.names.iter().for_each(|name| print!("{name:>12}"));
        println!("{:>14}", if self.names.len() > 1 { "ratio" } else { "" });
        for (name, columns) in &self.rows {
            print!("{name:48}");
            let medians: Vec<f64> = columns.iter().map(|figures| median(figures)).collect();
            medians.iter().for_each(|figure| print!("{figure:>12.2}"));
            match medians.as_slice() {
                [ours, theirs] if *theirs > 0.0 => println!("{:>14.3}", ours / theirs),
                _ => println!(),
            }
        }
    }
}

/// The middle one.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The standard error of their median, from the distance of their quartiles (of normal errors it is 1.253 times that of
/// the mean, and the quartiles are 1.349 standard deviations apart); outliers do not make it larger.
pub fn error_of_median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quarter = |which: usize| sorted.get(sorted.len() * which / 4).copied().unwrap_or(f64::NAN);
    1.253 * (quarter(3) - quarter(1)) / 1.349 / (figures.len() as f64).sqrt()
}
