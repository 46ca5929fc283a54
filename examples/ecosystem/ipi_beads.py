"""i-PI: a ring polymer of four beads of ethanol, all beads evaluated in one call.

    pip install 'ase_pet[ipi]'
    python examples/ecosystem/ipi_beads.py --out beads/
    python examples/ecosystem/ipi_beads.py --out beads/ --driver socket

The first has i-PI call the driver ``ase_pet.interfaces.ipi_driver``; in the second ASE's client
asks i-PI for structures over a socket, as any calculator can on any machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from ase import Atoms
from ase.build import molecule
from ase.calculators.socketio import SocketClient
from ase.io import read

from ase_pet import PETCalculator
from ase_pet.interfaces import ipi_driver

DIRECT = """<ffdirect name='pet'>
    <pes> custom </pes>
    <pes_path> {path} </pes_path>
    <batch_size> {beads} </batch_size>
    <parameters> {{template: start.xyz, model: {model}, dtype: float64}} </parameters>
  </ffdirect>"""
SOCKET = """<ffsocket name='pet' mode='unix' pbc='false'>
    <address> {address} </address>
  </ffsocket>"""
INPUT = """<simulation verbosity='low'>
  <output prefix='run'>
    <properties stride='1' filename='out'>
      [ step, time{{femtosecond}}, conserved{{electronvolt}}, temperature{{kelvin}},
        kinetic_cv{{electronvolt}}, potential{{electronvolt}} ]
    </properties>
    <trajectory stride='1' filename='pos'> positions{{angstrom}} </trajectory>
  </output>
  <total_steps> {steps} </total_steps>
  <prng> <seed> 1 </seed> </prng>
  {forces}
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='pet'/> </forces>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> 0.25 </timestep>
        <thermostat mode='pile_g'> <tau units='femtosecond'> 50 </tau> </thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""


def serve(atoms: Atoms, model: str, address: str, server: subprocess.Popen) -> None:
    """Answer i-PI's questions until it has no more."""
    socket = Path(f"/tmp/ipi_{address}")
    while not socket.exists() and server.poll() is None:
        time.sleep(0.1)
    atoms.calc = PETCalculator(model, dtype="float64")
    SocketClient(unixsocket=address).run(atoms, use_stress=True)


def main() -> None:
    """Write the input, start i-PI and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tensornet-ethanol")
    parser.add_argument("--driver", choices=("direct", "socket"), default="direct")
    parser.add_argument("--beads", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("beads"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    atoms = molecule("CH3CH2OH", vacuum=6.0)
    atoms.write(given.out / "start.xyz")
    address = f"ase_pet_{time.time_ns()}"
    forces = DIRECT if given.driver == "direct" else SOCKET
    settings = {"path": ipi_driver.__file__, "address": address, **vars(given)}
    text = INPUT.format(**settings, forces=forces.format(**settings))
    (given.out / "input.xml").write_text(text)
    i_pi = [sys.executable, Path(sys.executable).with_name("i-pi"), "input.xml"]
    with (
        (given.out / "i-pi.log").open("w") as log,
        subprocess.Popen(i_pi, cwd=given.out, stdout=log, stderr=log) as server,
    ):
        if given.driver == "socket":
            serve(atoms, given.model, address, server)
    if server.returncode:
        raise SystemExit(f"i-PI stopped; read {given.out / 'i-pi.log'}")
    beads = [read(given.out / f"run.pos_{k}.xyz", ":") for k in range(given.beads)]
    print(f"{len(beads)} beads, {len(beads[0])} frames; properties: {given.out / 'run.out'}")


if __name__ == "__main__":
    main()
