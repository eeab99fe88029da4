# FcgiStderrLevel says at which level a line of stderr is logged.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use Test::More;

# What the application writes to stderr is in the request.
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    $c->stderr(pack 'H*', $request->{params}{HTTP_X_SAYS});
    $c->reply("Content-Type: text/plain\r\n\r\nbody");
}, workers => 2);

my @LEVELS = qw(emerg alert crit error warn notice info debug trace1 trace8);

my $CONFIG = <<'EOC' . join '', map { <<"EOL" } @LEVELS;
<Location /app>
  SetHandler @APP@
</Location>
<Location /app/php>
  FcgiStderrLevel warn  "PHP Warning"
  FcgiStderrLevel info  "PHP (Notice|Deprecated)"
</Location>
<Location /app/php/more>
  FcgiStderrLevel debug "PHP Warning"
</Location>
<Location /app/rest>
  FcgiStderrLevel notice "^a.*z$"
  FcgiStderrLevel crit   "[0-9]{3}"
  FcgiStderrLevel debug
  FcgiStderrLevel emerg  "never"
</Location>
<Location /app/case>
  FcgiStderrLevel warn  "(?i)php warning"
</Location>
EOC
<Location /app/level/$_>
  FcgiStderrLevel $_
</Location>
EOL

my $httpd = Httpd->start(
    vars => { APP => $app->handler }, log_level => 'trace8',
    config => $CONFIG);

# The lines of stderr in the log of $httpd for a request: [level, text], ...
my $number = 0;

sub lines_of {
    my ($server, $path, %field) = @_;
    my $query = ++$number;
    my $answer = Client->get($server->port, "$path?$query", %field);
    ok($answer->complete, "$path answers");
    $server->wait_for_access(qr{\?$query HTTP}, 5) or return;
    my ($id) = $server->access_log =~ m{\?$query HTTP.* (\S+)$}m;
    my $line = qr/\[fastcgi_handler:(\w+)\].*\[\Q$id\E\]
                  .*?FCGI10:\ \S+:\ stderr:\ (.*)/x;
    return map { /$line/ ? [$1, $2] : () } split /\n/, $server->error_log;
}

sub logged {
    my ($path, @lines) = @_;
    return [lines_of($httpd, $path, 'X-Says' =>
                     unpack 'H*', join '', map { "$_\n" } @lines)];
}

my @PHP = ('PHP Warning:  a', 'PHP Notice:  b', 'PHP Deprecated:  c',
           'PHP Fatal error:  d', 'any other', 'so PHP Warning',
           'php warning');

sub levels { return [map { $_->[0] } @{ $_[0] }] }

subtest 'error is the default' => sub {
    my $lines = logged('/app', @PHP);
    is_deeply($lines, [map { ['error', $_] } @PHP]);
};

subtest 'every level' => sub {
    for my $level (@LEVELS) {
        is_deeply(logged("/app/level/$level", 'x'), [[$level, 'x']], $level);
    }
};

subtest 'patterns' => sub {
    is_deeply(levels(logged('/app/php', @PHP)),
              [qw(warn info info error error warn error)], 'of PHP');
    is_deeply(levels(logged('/app/case', @PHP)),
              [qw(warn error error error error warn warn)],
              'without regard to case');
    is_deeply(levels(logged('/app/rest', 'abcz', 'a123z', '123', '12', 'z a',
                            'never')),
              [qw(notice notice crit debug debug debug)],
              'the first that matches counts');
    is_deeply(levels(logged('/app/php/more', @PHP[0, 1, 3])),
              [qw(debug error error)], 'those of a section below replace all');
    is_deeply(logged('/app/rest', "a\0b123"), [['crit', 'a\\\\x00b123']],
              'what stands behind a NUL is seen, too');
};

subtest 'a long line has the level of each of its pieces' => sub {
    my $lines = logged('/app/php', 'PHP Warning: ' . 'x' x 2000);
    is(@$lines, 2, 'two pieces');
    is($lines->[0][0], 'warn', 'the first one matches');
};

subtest 'LogLevel holds' => sub {
    my $quiet = Httpd->start(vars => { APP => $app->handler },
                             log_level => 'notice', config => $CONFIG);
    my @lines = lines_of($quiet, '/app/php', 'X-Says' => unpack 'H*',
                         join '', map { "$_\n" } @PHP);
    is_deeply(levels(\@lines), [qw(warn error error warn error)],
              'info is not logged');
    $quiet->ok_healthy;
};

subtest 'what is refused' => sub {
    my %bad = (
        'FcgiStderrLevel loud' => qr/FcgiStderrLevel: 'loud'/,
        'FcgiStderrLevel' => qr/FcgiStderrLevel takes 1-2 arguments/,
        'FcgiStderrLevel info "(a"' => qr/'\(a' is not a regular expression/,
        'FcgiStderrLevel info a b' => qr/FcgiStderrLevel takes/,
    );
    for my $line (sort keys %bad) {
        my ($status, $output) = Httpd->configtest("$line\n");
        isnt($status, 0, $line);
        like($output, $bad{$line});
    }
};

# ---- real PHP ----

my %script = (
    'w.php' => '<?php trigger_error("w1", E_USER_WARNING);',
    'undefined.php' => '<?php echo $undefined; echo "page";',
    'n.php' => '<?php trigger_error("n1", E_USER_NOTICE);',
    'd.php' => '<?php trigger_error("d1", E_USER_DEPRECATED);',
    'plain.php' => '<?php error_log("plain");',
    'fatal.php' => '<?php echo "so far"; flush(); nowhere();',
    'parse.php' => '<?php echo "so far',
    'wn.php' => '<?php trigger_error("n1"); echo $undefined;',
    'all.php' => '<?php trigger_error("n1"); echo $undefined; echo "x";
        flush(); nowhere();',
);
my %level = (w => 'warn', undefined => 'warn', n => 'info', d => 'info',
             plain => 'error', fatal => 'error', parse => 'error',
             wn => 'warn', all => 'error');

subtest 'PHP-FPM' => sub {
    plan skip_all => 'no php-fpm here' if !PhpFpm::program();
    # Without error_log, PHP's messages go to FCGI_STDERR.
    my $php = PhpFpm->start(ini => {
        log_errors => 'on', display_errors => 'off', html_errors => 'off',
        error_reporting => 32767,
    });
    my $server = Httpd->start(
        vars => { PHP => $php->handler }, files => \%script,
        config => <<'EOC');
<FilesMatch "\.php$">
  SetHandler @PHP@
</FilesMatch>
FcgiStderrLevel error "PHP (Fatal|Parse) error"
FcgiStderrLevel warn  "PHP Warning"
FcgiStderrLevel info  "PHP (Notice|Deprecated)"
EOC
    # FPM joins the messages of a request: a line has the level of the worst.
    for my $name (sort keys %level) {
        my @lines = lines_of($server, "/$name.php");
        is($lines[0][0], $level{$name}, $name) or diag explain \@lines;
        like($lines[0][1], qr/PHP message: /, 'what it says');
    }
    is($php->log =~ /w1/, '', "and not in PHP-FPM's own log");
    $server->ok_healthy;
};

$httpd->ok_healthy;
done_testing;
