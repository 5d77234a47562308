from test_lab_panels_b import Hand, page, open_page, write_notebook
def test_diag(lab, browser):
    cells=["from reidkit.panels.loss_playground import LossPlayground\np=LossPlayground()\nlog=[]\np.observe(lambda c: log.append((c['name'],c['old'] if c['name']!='points' else '', c['new'] if c['name']!='points' else c['new'][0][0][:2])), names=['x','y','point','points'])\np","1"]
    write_notebook(lab,"diag.ipynb",cells); pg=open_page(lab,browser,"diag.ipynb")
    hand=Hand(pg,"LossPlayground"); hand.settled()
    run=("code => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code,user_expressions:{a:'log'}}).done.then(r=>r.content.user_expressions.a.data['text/plain'])")
    hand.press("point","ArrowRight"); pg.wait_for_timeout(2500); print("\n", pg.evaluate(run,"pass"))
    hand.press("point","ArrowLeft"); pg.wait_for_timeout(2500); print("\n", pg.evaluate(run,"pass"))
