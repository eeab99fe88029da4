<?php
// Licensed under the Apache License, Version 2.0; see LICENSE.
//
// How a request looks to PHP: as a page, or with ?plain as one line.

if (isset($_GET['plain'])) {
    header('Content-Type: text/plain; charset=utf-8');
    printf("Hello from PHP %s: SAPI %s, SCRIPT_NAME=%s, 6 * 7 = %d\n",
           PHP_VERSION, PHP_SAPI, $_SERVER['SCRIPT_NAME'], 6 * 7);
    exit;
}

$shown = ['REQUEST_METHOD', 'REQUEST_URI', 'SCRIPT_FILENAME', 'SCRIPT_NAME',
          'PATH_INFO', 'PHP_SELF', 'QUERY_STRING', 'CONTENT_LENGTH',
          'SERVER_PROTOCOL', 'REMOTE_ADDR', 'HTTP_USER_AGENT'];
?>
<!DOCTYPE html>
<title>Hello from PHP</title>
<style>body { font: 1em sans-serif; margin: 3em }
td { padding: .2em 1em .2em 0 }</style>
<h1>Hello from PHP <?= PHP_VERSION ?></h1>
<p>This is how your request looks to PHP (<?= PHP_SAPI ?>):
<table>
<?php foreach ($shown as $name): ?>
<tr><td><?= $name ?><td><?= htmlspecialchars($_SERVER[$name] ?? '') ?>

<?php endforeach ?>
</table>
<form method="post">
<p><input name="word" placeholder="a word"> <button>POST it</button>
<?php if (isset($_POST['word'])): ?>
<p>You sent <b><?= htmlspecialchars($_POST['word']) ?></b>.
<?php endif ?>
</form>
<p><a href="/django/">Django</a> <a href="/hello">C</a>
