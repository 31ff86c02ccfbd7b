"""How the models of four tasks are shipped: rhythm, respiration, heart rate, coronary disease."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edge_runtime.contract.window import Window
from host_tools.data import bidmc, uci_heart
from host_tools.export.front import PerSecondScale
from host_tools.export.golden_inputs import GoldenInput, ecg, in_steps, pulse_wave, repeated, rows
from host_tools.export.pack_window import Description
from host_tools.tasks import ecg_rhythm, heart_disease, ppg_heart_rate, ppg_respiration
from host_tools.tasks.ppg_windows import WindowPlan
from host_tools.tasks.shipping import Shipping

RHYTHM_HOP_S = 10
# Golden signals in the steps of a converter of few bits. That of rhythm, twice in a row, is five windows, no two alike.
RHYTHM_GOLDEN_S, RHYTHM_GOLDEN_HZ, RHYTHM_STEP_MV = 35.0, 100.0, 1 / 64
PULSE_GOLDEN_S, PULSE_STEP = 64.0, 1 / 512
GOLDEN_ROWS = 60
# After the high-pass, no recording's fifth of a second moves less in more than 0.5 % of its time, nor leaves +-3.
LEAST_PULSE, LARGEST_PULSE = 0.001, 4.0
# Ages, pressures and so on of the published patients.
LOWEST = {"age": 28.0, "trestbps": 80.0, "chol": 85.0, "thalach": 60.0, "oldpeak": -2.6}
HIGHEST = {"age": 77.0, "trestbps": 200.0, "chol": 603.0, "thalach": 202.0, "oldpeak": 6.2}
PHYSIONET = "Open Data Commons Attribution License v1.0 (ODC-By), as declared for this PhysioNet database"
GOLDBERGER = (
    "Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101(23):e215-e220"
    ", 2000."
)


def rhythm() -> Shipping:
    """Four classes of 30 s of one hand-held lead; the scaling that the task does is in the graph."""
    task = ecg_rhythm.EcgRhythm
    rate_hz = ecg_rhythm.CONDITIONING.rate_hz
    return Shipping(
        description=Description(
            name=task.name,
            task=task.name,
            unit="mV",
            window=Window(
                reading="rhythm",
                channels=("ECG",),
                rate_hz=float(rate_hz),
                window_samples=ecg_rhythm.WINDOW,
                least_movement=0.005,
                largest=15.0,
            ),
            hop_samples=RHYTHM_HOP_S * rate_hz,
            conditioning=ecg_rhythm.CONDITIONING,
            classes=task.classes,
        ),
        given=repeated(in_steps(ecg(RHYTHM_GOLDEN_S, RHYTHM_GOLDEN_HZ), RHYTHM_STEP_MV), 2),
        front=PerSecondScale(rate_hz, least=ecg_rhythm.LEAST_HEIGHT_MV, limit=ecg_rhythm.LIMIT),
        intended_use=(
            "Research on rhythm classification beside the sensor: comparing compressed models, and testing a gateway "
            "with a stream of one ECG lead. Not for decisions about a person."
        ),
        sees=(
            f"{ecg_rhythm.WINDOW // rate_hz} s of one ECG lead in mV, any sampling rate, resampled to {rate_hz} Hz "
            f"and high-passed on the device, every {RHYTHM_HOP_S} s; the graph scales each window by the median height "
            "of its seconds."
        ),
        says=(
            "`rhythm`: N (normal), A (atrial fibrillation), O (any other rhythm) or noise (too noisy to tell), with "
            "the probability of that class."
        ),
        data=(
            "PhysioNet/CinC Challenge 2017: 7,028 of the 8,528 public training recordings (4,183 N, 625 A, 1,990 O, "
            "230 noise; labels version 3), 9 to 61 s each, one lead between the hands, by one maker's device (AliveCor)"
            ", 300 Hz."
        ),
        licence=PHYSIONET,
        citation=(
            "Clifford GD, Liu C, Moody B, et al. AF classification from a short single lead ECG recording: the "
            f"PhysioNet/Computing in Cardiology Challenge 2017. CinC 44, 2017, doi 10.22489/CinC.2017.065-469. "
            f"{GOLDBERGER}"
        ),
        protocol=(
            "Stratified 5-fold cross-validation by recording; an eighth of each training part chose the model. Tested "
            "on the central 30 s of each recording. The score is the challenge's: mean F1 of N, A and O."
        ),
        failures=(
            "The set names no persons: one person's recordings may be in training and in test, so the figures may be "
            "too good for new persons.",
            "1,500 of the public recordings are missing from this copy, and the challenge's hidden test set was never "
            "seen: the score is not comparable to the challenge's ranking.",
            "Only hand-held recordings of one device: other electrodes, chest leads and monitors were not tested.",
            "Noise has 230 examples, and its F1 is not in the score; a window of noise can be called a rhythm.",
            "O is whatever is neither N nor A nor noise: it does not say which rhythm, and rare dangerous ones "
            "(ventricular tachycardia, high-degree block) were not examined by themselves.",
            "A recording has one label; an episode much shorter than 30 s can be missed.",
            "12 % of the recordings are shorter than a window and were filled with zeros; on the device every window "
            "is full, and after a gap nothing is said for 30 s.",
            "Pacemakers, children and implants are not identified in the data; nothing is known about them.",
        ),
        figures={
            "f1_nao": ("mean F1 of N, A, O", "%"),
            "f1_N": ("F1 of N", "%"),
            "f1_A": ("F1 of A", "%"),
            "f1_O": ("F1 of O", "%"),
            "f1_noise": ("F1 of noise", "%"),
            "sensitivity_N": ("share of N that is found", "%"),
            "sensitivity_A": ("share of A that is found", "%"),
            "sensitivity_O": ("share of O that is found", "%"),
            "sensitivity_noise": ("share of noise that is found", "%"),
            "accuracy": ("accuracy", "%"),
        },
        group="recording",
    )


def respiration() -> Shipping:
    """Breaths a minute from 32 s of pulse wave."""
    plan = ppg_respiration.PLAN
    return Shipping(
        description=_rate("ppg-respiration", "respiration_rate", plan),
        given=in_steps(pulse_wave(PULSE_GOLDEN_S, float(bidmc.RATE_HZ)), PULSE_STEP),
        intended_use=(
            "Research on respiration from pulse oximeters: comparing compressed models, and testing a gateway with a "
            "stream of pulse wave. Not for alarms or any decision about a person."
        ),
        sees=_sees(plan),
        says=_says("respiration_rate", "breaths/min", plan),
        data=(
            "BIDMC PPG and Respiration: 53 records of 46 intensive-care patients of one hospital, aged 19 to over 90, "
            "8 minutes each, bedside pulse oximeter at 125 Hz. The reference is the mean of two annotators' breaths."
        ),
        licence=PHYSIONET,
        citation=_bidmc(),
        protocol=(
            "5 folds of patients, so that nobody is in training and in test; a fifth of each training part's windows, "
            "of other patients again, chose the model. Windows every 4 s; training also saw recordings played at other "
            "speeds."
        ),
        failures=(
            "Windows in which the annotators differ by more than 2 breaths/min or one marked fewer than two breaths "
            "(423 of 5,989) were neither trained nor tested; such windows come on a device, so the figures are too "
            "good.",
            "Intensive-care pulse oximeters of patients who lie still: a wrist device, walking or shivering were never "
            "tested.",
            f"It cannot say less than {plan.centres[0]:g} or more than {plan.centres[-1]:g} breaths/min; apnoea has no "
            "reading of its own.",
            "Real windows are from 4.5 to 26 breaths/min, 2 % below 10 and 0.6 % above 25: slow and fast breathing is "
            "known to training from recordings played at other speeds, and hardly tested.",
            "46 patients: the interval is wide, and some patients are far worse than the mean; see the worst tenth.",
            "Where breathing does not move the pulse wave (arrhythmia, poor perfusion, shallow breaths) it can follow "
            "another rhythm, such as half the rate.",
        ),
        figures=_rate_figures("breaths/min", plan),
        group="patient",
    )


def heart_rate() -> Shipping:
    """Beats a minute from 16 s of pulse wave."""
    plan = ppg_heart_rate.PLAN
    return Shipping(
        description=_rate("ppg-heart-rate", "heart_rate", plan),
        given=in_steps(pulse_wave(PULSE_GOLDEN_S, float(bidmc.RATE_HZ)), PULSE_STEP),
        intended_use=(
            "Research on pulse rate from pulse oximeters: comparing compressed models, and testing a gateway with a "
            "stream of pulse wave. Not for alarms or any decision about a person."
        ),
        sees=_sees(plan),
        says=_says("heart_rate", "beats/min", plan),
        data=(
            "BIDMC PPG and Respiration: 53 records of 46 intensive-care patients of one hospital, aged 19 to over 90, "
            "8 minutes each, bedside pulse oximeter at 125 Hz. The reference is the monitor's ECG heart rate."
        ),
        licence=PHYSIONET,
        citation=_bidmc(),
        protocol=(
            "5 folds of patients, so that nobody is in training and in test; a fifth of each training part's windows, "
            "of other patients again, chose the model. Windows every 4 s; training also saw recordings played at other "
            "speeds."
        ),
        failures=(
            "The reference is the monitor's own number, which it has averaged and shows late: where the rate changes "
            "fast, a right answer counts as an error.",
            "Intensive-care pulse oximeters of patients who lie still: a wrist device, walking or shivering were never "
            "tested.",
            f"It cannot say less than {plan.centres[0]:g} or more than {plan.centres[-1]:g} beats/min; real windows "
            "are from 53 to 129 beats/min, 0.8 % below 60 and 3.6 % above 120.",
            "It counts pulses, not heart beats: premature or fibrillating beats that move no blood are missed.",
            "46 patients: the interval is wide, and some patients are far worse than the mean; see the worst tenth.",
        ),
        figures=_rate_figures("beats/min", plan),
        group="patient",
    )


def coronary() -> Shipping:
    """A narrowed coronary vessel or none, from a row of 13 measures with missing cells."""
    task = heart_disease.HeartDisease
    return Shipping(
        description=Description(
            name=task.name,
            task=task.name,
            unit="row",
            window=Window(
                reading="heart_disease",
                channels=uci_heart.COLUMNS,
                rate_hz=1.0,
                window_samples=1,
                missing="in graph",
            ),
            hop_samples=1,
            classes=task.classes,
        ),
        given=_patients(),
        intended_use=(
            "Research on compressed models for tables with missing cells, and testing a gateway with rows. Not for "
            "decisions about a person."
        ),
        sees=(
            f"A row of 13 numbers, {', '.join(uci_heart.COLUMNS)}, in the units and codes of the UCI files; NaN where "
            "a value is missing, which the graph itself handles."
        ),
        says="`heart_disease`: healthy or diseased (a vessel narrowed by more than half), with its probability.",
        data=(
            "UCI heart disease, the four processed files: 920 patients sent for coronary angiography in Cleveland, "
            "Budapest, Zurich and Basel, and Long Beach, published in 1988 and 1989; 79 % men, 55 % diseased."
        ),
        licence="CC BY 4.0",
        citation=(
            "Janosi A, Steinbrunn W, Pfisterer M, Detrano R. Heart Disease. UCI Machine Learning Repository, 1988, doi "
            "10.24432/C52P4X. Detrano R, et al. Am J Cardiol 64:304-310, 1989."
        ),
        protocol=(
            "10 times stratified 5-fold cross-validation over the patients of all hospitals together; a quarter of "
            "each training part chose the model."
        ),
        failures=(
            "Training and test share hospitals, so the figures are not those of a hospital that was never seen; that "
            "is what the task heart-disease-hospitals measures.",
            "Hospitals of the 1980s, and patients who were sent for angiography: 55 % are diseased. On people who were "
            "not sent, its probabilities are far too high.",
            "66 % of `ca`, 53 % of `thal` and 34 % of `slope` are missing, nearly all outside Cleveland: what is "
            "missing tells the hospital, and the hospital tells how many are diseased (36 to 93 %). A model that sees "
            "what is missing learns that too.",
            "Cholesterol 0 in the Swiss and Long Beach files is a missing value and was made one; a source that sends "
            "0 for a missing value is misread.",
            "Only 21 % are women.",
            "A code that the data do not know is treated as none of the codes and is not refused.",
            "Two pairs of patients have equal measures, and may be on both sides of a fold.",
        ),
        figures={
            "auroc": ("AUROC", ""),
            "auprc": ("AUPRC", ""),
            "min_se_ppv": ("best smaller of sensitivity and precision", ""),
            "accuracy": ("accuracy", "%"),
            "brier": ("Brier score", ""),
            "ece": ("expected calibration error", ""),
            "sensitivity_healthy": ("share of the healthy that is found", "%"),
            "sensitivity_diseased": ("share of the diseased that is found", "%"),
        },
        group="patient",
    )


SHIPPED: Mapping[str, Callable[[], Shipping]] = {
    "ecg-rhythm": rhythm,
    "heart-disease": coronary,
    "ppg-heart-rate": heart_rate,
    "ppg-respiration": respiration,
}


def _rate(name: str, reading: str, plan: WindowPlan) -> Description:
    rate_hz = plan.conditioning.rate_hz
    return Description(
        name=name,
        task=name,
        unit="NU",
        window=Window(
            reading=reading,
            reading_unit="1/min",
            output="number",
            values=plan.centres,
            reach=plan.reach,
            channels=(bidmc.CHANNEL,),
            rate_hz=float(rate_hz),
            window_samples=plan.samples,
            refuse_below=plan.refuse_below,
            least_movement=LEAST_PULSE,
            largest=LARGEST_PULSE,
        ),
        hop_samples=round(plan.hop_s * rate_hz),
        conditioning=plan.conditioning,
    )


def _sees(plan: WindowPlan) -> str:
    return (
        f"{plan.window_s:g} s of pulse wave (photoplethysmogram) in normalized units, any sampling rate, resampled to "
        f"{plan.conditioning.rate_hz} Hz and high-passed on the device, every {plan.hop_s:g} s; the graph scales each "
        "window by its own deviation."
    )


def _says(reading: str, unit: str, plan: WindowPlan) -> str:
    return (
        f"`{reading}` in {unit}, from {plan.centres[0]:g} to {plan.centres[-1]:g}, with the probability of the bins "
        f"near it; no value where that is below {plan.refuse_below:g}."
    )


def _rate_figures(unit: str, plan: WindowPlan) -> dict[str, tuple[str, str]]:
    sure = f"confidence at least {plan.refuse_below:g}"
    return {
        "mae": ("mean absolute error, all windows", unit),
        "rmse": ("root mean square error, all windows", unit),
        "bias": ("mean error, all windows", unit),
        "mae_by_subject": ("mean of the patients' mean absolute errors", unit),
        "within_2": (f"windows within 2 {unit}", "%"),
        "coverage": (f"windows with a value ({sure})", "%"),
        "mae_sure": ("mean absolute error of windows with a value", unit),
    }


def _bidmc() -> str:
    return (
        "Pimentel MAF, Johnson AEW, Charlton PH, et al. Toward a robust estimation of respiratory rate from pulse "
        f"oximeters. IEEE Trans Biomed Eng 64(8):1914-1923, 2017, doi 10.1109/TBME.2016.2613124. {GOLDBERGER}"
    )


def _patients() -> GoldenInput:
    """Rows within the published ranges, codes among the published ones, three cells in ten missing."""
    codes = {name: of for name, of in uci_heart.CODES.items() if name in uci_heart.COLUMNS}
    low, high = (
        np.array([codes[c][end] if c in codes else limits[c] for c in uci_heart.COLUMNS])
        for end, limits in ((0, LOWEST), (-1, HIGHEST))
    )
    given = rows(GOLDEN_ROWS, low, high, missing=0.3)
    x = np.round(given.samples, 1)
    for name, of in codes.items():
        column = x[:, uci_heart.COLUMNS.index(name)]
        known = np.array(of)
        nearest = known[np.abs(np.nan_to_num(column)[:, None] - known).argmin(axis=1)]
        column[:] = np.where(np.isnan(column), column, nearest)
    return replace(given, samples=x.astype(np.float32))
