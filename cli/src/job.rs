//! One of several processes that share the work of a run, such as a task of a Slurm array.

use std::ops::Range;

use crate::{failure::Misuse, progress};

/// Which share of the work is this process's; without these, Slurm's `SLURM_ARRAY_TASK_ID` and the like decide.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct JobArgs {
    /// Which of the jobs this is, from 0 [default: what Slurm says of its array]
    #[arg(long, value_name = "INDEX", requires = "num_jobs")]
    pub(crate) job_index: Option<usize>,
    /// Into how many jobs the work is split
    #[arg(long, value_name = "COUNT")]
    pub(crate) num_jobs: Option<usize>,
}

/// A share of the work: the `index`-th of `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) index: usize,
    pub(crate) count: usize,
}

impl JobArgs {
    /// The share that is asked for; all of the work if nothing says otherwise. A share that only Slurm's variables ask for
    /// is announced: a command calls this before it says anything else.
    ///
    /// # Errors
    /// An index that the number of jobs does not have; variables of Slurm that make no sense.
    pub(crate) fn job(&self) -> Result<Job, Misuse> {
        let job = self.job_in(|name| std::env::var(name).ok())?;
        if let Some(announcement) = self.announcement(job) {
            progress::note(&announcement);
        }
        Ok(job)
    }

    /// What is said of a share that nobody has asked for on the command line.
    fn announcement(&self, job: Job) -> Option<String> {
        let Job { index, count } = job;
        (self.num_jobs.is_none() && count > 1).then(|| {
            format!(
                "this is job {index} of {count} of a Slurm array (`SLURM_ARRAY_TASK_ID`), and does only its share of the \
                 work; pass `--num-jobs 1` to do all of it"
            )
        })
    }

    fn job_in(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Job, Misuse> {
        let number = |name: &str| -> Result<Option<usize>, Misuse> {
            let parse = |text: String| {
                text.trim().parse().map_err(|_| Misuse::new(format!("`{name}` is `{text}`, expected a whole number")))
            };
            variable(name).map(parse).transpose()
        };
        let (index, count) = match (self.job_index, self.num_jobs) {
            (Some(index), Some(count)) => (index, count),
            (None, Some(1)) => (0, 1),
            // A single task that is submitted again is an array of one: only the user knows of how many it was.
            (_, Some(count)) => {
                if let Some(index) = number("SLURM_ARRAY_TASK_ID")? {
                    (index, count)
                } else {
                    let what = format!("{count} jobs, but nothing says which of them this is");
                    return Err(Misuse::new(what).hint("pass `--job-index`, from 0, or run it as a Slurm array"));
                }
            }
            _ => match (number("SLURM_ARRAY_TASK_ID")?, number("SLURM_ARRAY_TASK_COUNT")?) {
                (Some(id), Some(count)) => {
                    let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
                    let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
                    (id.saturating_sub(first) / step, count)
                }
                _ => (0, 1),
            },
        };
        if index >= count {
            let what = format!("job {index} of {count}, expected an index below the number of jobs");
            return Err(Misuse::new(what).hint("jobs count from 0; submit the array as `--array=0-N`, without gaps"));
        }
        Ok(Job { index, count })
    }
}

impl Job {
    /// The share of `len` pieces of work: the shares of all jobs, in order, are all of it.
    ///
    /// It may be empty, where there are more jobs than shares of equal size.
    pub(crate) fn slice(&self, len: usize) -> Range<usize> {
        let most = len.div_ceil(self.count);
        let start = self.index.saturating_mul(most).min(len);
        start..(start + most).min(len)
    }

    /// As [`Self::slice`], and says so where nothing is left for this job; `what` are the pieces.
    pub(crate) fn share(&self, len: usize, what: &str) -> Range<usize> {
        let range = self.slice(len);
        let Self { index, count } = self;
        if range.is_empty() {
            progress::note(&format!("job {index} of {count} has nothing to do: there are {len} {what}"));
        }
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(index: Option<usize>, count: Option<usize>, slurm: &[(&str, &str)]) -> Result<Job, String> {
        let variable = |name: &str| {
            slurm
                .iter()
                .find(|(key, _)| name == format!("SLURM_ARRAY_TASK_{key}"))
                .map(|(_, value)| (*value).to_owned())
        };
        JobArgs { job_index: index, num_jobs: count }.job_in(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shares_are_everything_once_and_in_order() {
        for count in 1..12 {
            for len in 0..40 {
                let shares: Vec<usize> = (0..count).flat_map(|index| Job { index, count }.slice(len)).collect();
                assert_eq!(shares, (0..len).collect::<Vec<_>>(), "{len} in {count}");
            }
        }
        assert_eq!(Job { index: 2, count: 4 }.slice(10), 6..9);
        assert!(Job { index: 3, count: 4 }.slice(5).is_empty());
    }

    #[test]
    fn arguments_come_before_slurm_and_slurm_before_all() {
        let slurm = [("ID", "7"), ("COUNT", "4"), ("MIN", "1"), ("STEP", "2")];
        assert_eq!(job(None, None, &[]), Ok(Job { index: 0, count: 1 }));
        assert_eq!(job(None, None, &slurm), Ok(Job { index: 3, count: 4 }));
        assert_eq!(job(Some(1), Some(3), &slurm), Ok(Job { index: 1, count: 3 }));
        // `--array=7` of what was `--array=0-9`.
        assert_eq!(job(None, Some(10), &[("ID", "7"), ("COUNT", "1"), ("MIN", "7")]), Ok(Job { index: 7, count: 10 }));
    }

    #[test]
    fn a_share_that_only_slurm_asks_for_is_announced() {
        let args = |index, count| JobArgs { job_index: index, num_jobs: count };
        let told = args(None, None).announcement(Job { index: 3, count: 8 }).unwrap();
        assert!(told.contains("job 3 of 8") && told.contains("SLURM_ARRAY_TASK_ID") && told.contains("--num-jobs 1"));
        assert_eq!(args(None, None).announcement(Job { index: 0, count: 1 }), None);
        assert_eq!(args(None, Some(8)).announcement(Job { index: 3, count: 8 }), None);
        assert_eq!(args(Some(3), Some(8)).announcement(Job { index: 3, count: 8 }), None);
        // As the note says.
        assert_eq!(job(None, Some(1), &[("ID", "3"), ("COUNT", "8")]), Ok(Job { index: 0, count: 1 }));
    }

    #[test]
    fn shares_that_do_not_exist_are_refused() {
        assert!(job(Some(3), Some(3), &[]).unwrap_err().contains("job 3 of 3"));
        assert!(job(Some(0), Some(0), &[]).is_err());
        assert!(job(None, Some(2), &[]).unwrap_err().contains("which of them"));
        assert!(job(None, None, &[("ID", "5"), ("COUNT", "2"), ("MIN", "1")]).is_err(), "`--array=1,5` has a gap");
        assert!(job(None, None, &[("ID", "x"), ("COUNT", "2")]).unwrap_err().contains("SLURM_ARRAY_TASK_ID"));
    }
}
