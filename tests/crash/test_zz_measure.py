import time, pytest
from tests.worlds.builds import World
@pytest.fixture
def world(build_world): return build_world
def test_m(world):
    out=[]
    for lag in (0.0, 0.0, 2.0, 20.0, 40.0, 0.0, 40.0):
        world.fresh(); world.paper.set(visibility_delay=lag, grant_delay=2*lag, pending={"parameter": min(lag, 20.0)})
        t=time.process_time(); w=time.time(); n=len(world.paper.calls)
        world.build()
        out.append((lag, round(time.process_time()-t,2), round(time.time()-w,2), len(world.paper.calls)-n))
    open('/tmp/vis.measure','w').write(repr(out))
