"""Every table and figure of both papers, and where the kit shows or tests it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exhibit:
    """A table or figure. notebook: the one whose text names it. panel, suite: where there is one.

    what: "numbers" are tested by a suite (or counted), "picture" is shown, "drawing" explains.
    """

    paper: str
    name: str
    about: str
    what: str
    notebook: str
    suite: str = ""
    panel: str = ""


EXHIBITS = (
    Exhibit("MPN", "Fig. 1", "misaligned boxes", "picture", "01_data_and_misalignment", panel="MisalignmentSandbox"),
    Exhibit("MPN", "Fig. 2", "channels and body parts", "picture", "03_mpn_step_by_step"),
    Exhibit("MPN", "Fig. 3", "the architecture", "drawing", "03_mpn_step_by_step"),
    Exhibit("MPN", "Fig. 4", "what the two tools do", "picture", "02_coarse_priors", panel="PriorStepper"),
    Exhibit("MPN", "Fig. 5", "prior and part features", "drawing", "02_coarse_priors", panel="PriorStepper"),
    Exhibit("MPN", "Fig. 6", "channel attention", "drawing", "03_mpn_step_by_step"),
    Exhibit("MPN", "Fig. 7", "how many parts", "numbers", "05_mpn_ablations", "mpn-fig7", "KSweep"),
    Exhibit(
        "MPN", "Fig. 8", "part attention of three networks", "picture", "10_part_attention", panel="AttentionPanel"
    ),
    Exhibit("MPN", "Fig. 9", "part attention of MPN", "picture", "10_part_attention", panel="AttentionPanel"),
    Exhibit("MPN", "Fig. 10", "soft or hard sharing", "numbers", "05_mpn_ablations", "mpn-fig10"),
    Exhibit("MPN", "Table 1", "components", "numbers", "05_mpn_ablations", "mpn-table1", "VariantComparator"),
    Exhibit("MPN", "Table 2", "priors", "numbers", "05_mpn_ablations", "mpn-table2"),
    Exhibit("MPN", "Table 3", "alignment without PSA", "numbers", "05_mpn_ablations", "mpn-table3"),
    Exhibit("MPN", "Table 4", "alignment with PSA", "numbers", "05_mpn_ablations", "mpn-table4"),
    Exhibit("MPN", "Table 5", "Market-1501", "numbers", "", "mpn-table5"),
    Exhibit("MPN", "Table 6", "DukeMTMC-reID", "numbers", "", "mpn-table6"),
    Exhibit("MPN", "Table 7", "CUHK03", "numbers", "", "mpn-table7"),
    Exhibit("MPN", "Table 8", "MSMT17", "numbers", "", "mpn-table8"),
    Exhibit("MPN", "Table 9", "parameters and times", "numbers", "13_look_further"),
    Exhibit("CGPN", "Fig. 1", "occluded and cut people", "picture", "08_train_cgpn"),
    Exhibit("CGPN", "Fig. 2", "the structure", "drawing", "07_cgpn_step_by_step"),
    Exhibit("CGPN", "Fig. 3", "coarse stripe groups", "drawing", "07_cgpn_step_by_step", panel="CGPNExplorer"),
    Exhibit("CGPN", "Fig. 4", "fine stripes", "drawing", "07_cgpn_step_by_step", panel="CGPNExplorer"),
    Exhibit("CGPN", "Fig. 5", "what global parts look at", "picture", "08_train_cgpn", panel="CGPNExplorer"),
    Exhibit("CGPN", "Fig. 6", "ranked lists beside MGN", "picture", "11_retrieval_and_errors", panel="RankedList"),
    Exhibit("CGPN", "Table 1", "other methods", "numbers", "09_cgpn_ablations", "cgpn-table1"),
    Exhibit("CGPN", "Table 2", "Occluded-DukeMTMC", "numbers", "09_cgpn_ablations", "cgpn-table2"),
    Exhibit("CGPN", "Table 3", "local and global parts", "numbers", "09_cgpn_ablations", "cgpn-table3"),
    Exhibit("CGPN", "Table 4", "convs and branches", "numbers", "09_cgpn_ablations", "cgpn-table4"),
)
