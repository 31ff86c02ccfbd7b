"""The model card of a bundle of the task `ecg-beats`, from the report of the run that made it."""

from __future__ import annotations

from host_tools.export.card import Figure, write_card
from host_tools.measure.study import Requirement, StudyReport

FAILURES = (
    "S beats are found unevenly: a patient whose premature atrial beats outnumber the normal ones, as in record 232, "
    "decides the figure; it is told with and without that record.",
    "F beats are hardly learnable from the training records, nine in ten of whose F beats come from one patient (208); "
    "Q is never answered.",
    "In electrode-motion noise false ventricular beats come first: at 12 dB the positive predictivity of V has fallen "
    "below a half, while nearly all beats are still found.",
    "Where the signal does not support a beat (flat, out of range, or unlike the beats before it) it is told without a "
    "class; in electrode motion that is about a third of the false beats, so most of them still get one.",
    "One lead of the kind of MLII, adults, ambulatory tape recordings of the 1970s; other leads, children, pacemakers "
    "and ventricular flutter were not tested.",
)


def beat_card(report: StudyReport) -> str:
    """The text of MODEL_CARD.md."""
    return write_card(
        title=report.title,
        intended_use="Research and engineering: detecting and classifying heart beats on a gateway, as the samples "
        "arrive; comparing models and devices. It raises no alarms and gives no diagnosis.",
        sees="one ECG lead in mV at any rate from 50 to 4096 Hz, resampled on the device to 125 Hz.",
        says="heart beats: position, class N, S, V or F (AAMI EC57), confidence, and the quality of the signal.",
        data=report.data,
        protocol="Training and test records are of different patients (de Chazal's division; record 202 is the person "
        "of training record 201 and is left out of the test). The model finds the beats itself; a match lies within "
        "150 ms. Intervals by resampling records. Nothing was chosen on test records.",
        figures=[_figure(r) for r in report.requirements if r.value is not None],
        failures=FAILURES,
        origin=[
            ("command", report.command),
            ("commit", report.commit),
            ("recipe", report.recipe),
            ("seed", str(report.seed)),
            ("made", report.created),
        ],
        simulated=report.simulated,
    )


def _figure(r: Requirement) -> Figure:
    note = r.note if r.floor is None else f"floor {r.floor:g}, goal {r.goal:g}; {r.note}".rstrip("; ")
    return Figure(name=r.name, value=float(r.value or 0.0), unit=r.unit, low=r.low, high=r.high, note=note)
