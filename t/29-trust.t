# A .htaccess file leads no request where the server's own files do not.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# fcgi_trust.c has the threat model.  Here alice writes .htaccess files with
# AllowOverride All, owns her folder and its links, and is a client, too; bob
# is who she must not reach.  And what administrators rely on goes on working.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Private;
use Test::More;

my $run = Private::temp_dir('trust');
my %app = map {
    my $name = $_;
    $name => FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request(5) or return;
        my $params = $request->{params};
        $c->reply("Content-Type: text/plain\r\n\r\n$name "
                  . ($params->{SCRIPT_NAME} // ''));
    }, transport => 'unix', socket => "$run/$name.sock");
} qw(alice bob);
my @MODULES = qw(rewrite headers actions include authn_core authn_file
                 auth_basic authz_user);
my $HTPASSWD = "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n";    # password
my $AS_BOB = 'Basic ' . encode_base64('bob:password', '');

sub get {
    my ($httpd, $path, @fields) = @_;
    unshift @fields, 'Host: alice' if !grep { /^Host:/ } @fields;
    return Client->request($httpd->port, join "\r\n", "GET $path HTTP/1.1",
                           'Connection: close', @fields, '', '');
}

sub who { return $_[0]->body =~ s/ .*//sr }

# ---- what alice must not be able to do ----

# place => what the server's own configuration says of /place/
my %own = (
    host => 'SetHandler "fcgi:@RUN@/%{HTTP_HOST}.sock"',
    forwarded => 'SetHandler "fcgi:@RUN@/%{HTTP:X-Forwarded-Host}.sock"',
    variable => 'SetHandler "fcgi:@RUN@/%{env:BY_HOST}.sock"',
    if => "SetHandler \"fcgi:\@RUN@/alice.sock\"\n"
        . "<If \"%{HTTP_HOST} == 'bob'\">\n"
        . "SetHandler \"fcgi:\@RUN@/bob.sock\"\n</If>",
    'if-variable' => "SetHandler \"fcgi:\@RUN@/alice.sock\"\n"
        . "<If \"%{reqenv:POOL} == 'bob'\">\n"
        . "SetHandler \"fcgi:\@RUN@/bob.sock\"\n</If>",
    rule => 'SetHandler "fcgi:@RUN@/alice.sock"',
    match => 'SetHandler "fcgi:@RUN@/%{env:MATCH_USER}.sock"',
    user => 'SetHandler "fcgi:@RUN@/%{REMOTE_USER}.sock"',
    pool => 'SetHandler "fcgi:@RUN@/%{env:POOL}.sock"',
    plain => 'SetHandler "fcgi:@RUN@/alice.sock"',
);

# place => header fields alice's requests have
my %fields = (forwarded => ['X-Forwarded-Host: alice'],
              user => ["Authorization: $AS_BOB"]);

my $TO_BOB = "RequestHeader set Host bob\nRequestHeader set "
    . "X-Forwarded-Host bob\n";
my $RULE = "RewriteEngine On\nRewriteRule ^go\$ i.x [L]\n";
my $SSI = "Options +Includes\nAddOutputFilter INCLUDES .shtml\n";

# name => [place, .htaccess, URL below /place/, more files].  WHERE is the
# place.
my %attacks = (
    'a field, then a RewriteRule' => ['host', $TO_BOB . $RULE, 'go'],
    'a field, then a RewriteRule with END' => [
        'host', $TO_BOB . ($RULE =~ s/\[L\]/[END]/r), 'go'],
    'a field, then an ErrorDocument' => [
        'host', $TO_BOB . "ErrorDocument 404 /WHERE/i.x", 'none'],
    'a field, then an ErrorDocument of a deeper folder' => [
        'host', "ErrorDocument 404 /WHERE/i.x", 'deep/none', {
            'deep/.htaccess' => $TO_BOB }],
    'a field, then an Action' => [
        'host', $TO_BOB . "AddHandler own .y\nAction own /WHERE/i.x", 'b.y',
        { 'b.y' => 'y' }],
    'a field, then a folder and its DirectoryIndex' => [
        'host', $TO_BOB . "DirectoryIndex i.x\nRewriteEngine On\n"
        . "RewriteRule ^go\$ deep/ [L]", 'go', { 'deep/i.x' => 'source' }],
    'a field, then a FallbackResource' => [
        'host', $TO_BOB . "FallbackResource /WHERE/i.x\nRewriteEngine On\n"
        . "RewriteRule ^go\$ none [L]", 'go'],
    'a field, then an include' => [
        'host', $TO_BOB . $SSI, 'p.shtml', {
            'p.shtml' => '<!--#include virtual="i.x" -->' }],
    'a field of an include' => [
        'host', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#include virtual="deep/go" -->',
            'deep/.htaccess' => $TO_BOB . $RULE,
            'deep/i.x' => 'source' }],
    'X-Forwarded-Host' => ['forwarded', $TO_BOB . $RULE, 'go'],
    'X-Forwarded-Host, ErrorDocument' => [
        'forwarded', $TO_BOB . "ErrorDocument 404 /WHERE/i.x", 'none'],
    'a field that SetEnvIf reads' => ['variable', $TO_BOB . $RULE, 'go'],
    'SetEnvIf' => ['variable', 'SetEnvIf Request_URI ^ BY_HOST=bob', 'i.x'],
    'a field that <If> reads' => ['if', $TO_BOB . $RULE, 'go'],
    'a field that a RewriteCond reads' => ['rule', $TO_BOB . $RULE, 'go'],
    'a name in FilesMatch' => [
        'match', "<FilesMatch \"(?<USER>bob)\">\n</FilesMatch>", 'bob.x',
        { 'bob.x' => 'source' }],
    'a name in FilesMatch, then a RewriteRule' => [
        'match', "<FilesMatch \"(?<USER>bob)\">\n</FilesMatch>\n"
        . "RewriteEngine On\nRewriteRule ^go\$ bob.x [L]", 'go',
        { 'bob.x' => 'source' }],
    'a password file of her own' => [
        'user', "AuthType Basic\nAuthName a\n"
        . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user", 'i.x'],
    'a password file of her own, in Files' => [
        'user', "<Files i.x>\nAuthType Basic\nAuthName a\n"
        . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user\n</Files>",
        'i.x'],
    'a password file of her own, in If' => [
        'user', "<If true>\nAuthType Basic\nAuthName a\n"
        . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user\n</If>",
        'i.x'],
    'a password file of her own, then a RewriteRule' => [
        'user', "AuthType Basic\nAuthName a\nAuthUserFile "
        . "\@DOCROOT@/htpasswd\nRequire valid-user\n$RULE", 'go'],
    'a password file for the DirectoryIndex' => [
        'user', "DirectoryIndex deep/i.x", '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => "AuthType Basic\nAuthName a\n"
            . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user" }],
    'a variable by SetEnvIf' => [
        'pool', 'SetEnvIf Request_URI ^ POOL=bob', 'i.x'],
    'a variable by SetEnv' => ['pool', 'SetEnv POOL bob', 'i.x'],
    'a variable of the folder of the DirectoryIndex' => [
        'pool', 'DirectoryIndex deep/i.x', '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => 'SetEnvIf Request_URI ^ POOL=bob' }],
    'a variable by a rule' => [
        'pool', "RewriteEngine On\nRewriteRule ^ - [E=POOL:bob]\n"
        . "DirectoryIndex i.x", ''],
    'a variable by SetEnv, then an include' => [
        'pool', "SetEnv POOL bob\n$SSI", 'p.shtml', {
            'p.shtml' => '<!--#include virtual="i.x" -->' }],
    'a variable of a page' => [
        'pool', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#set var="POOL" value="bob" -->'
                . '<!--#include virtual="i.x" -->' }],
    'a variable of a page that <If> reads' => [
        'if-variable', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#set var="POOL" value="bob" -->'
                . '<!--#include virtual="i.x" -->' }],
    'SetHandler' => ['plain', 'SetHandler fcgi:@RUN@/bob.sock', 'i.x'],
    'SetHandler by name' => ['plain', 'SetHandler fcgi:bob', 'i.x'],
    'AddHandler' => [
        'none', 'AddHandler fcgi:@RUN@/bob.sock .x', 'i.x'],
    'AddType' => ['none', 'AddType fcgi:@RUN@/bob.sock .x', 'i.x'],
    'AddHandler for the DirectoryIndex' => [
        'none', "DirectoryIndex deep/i.x", '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => 'AddHandler fcgi:bob .x' }],
    'RewriteRule with H' => [
        'plain', "RewriteEngine On\nRewriteRule ^ - [H=fcgi:bob]", 'i.x'],
    'SetHandler in If' => [
        'plain', "<If true>\nSetHandler fcgi:bob\n</If>", 'i.x'],
    'SetHandler in the .htaccess of an include' => [
        'plain', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#include virtual="deep/i.x" -->',
            'deep/i.x' => 'source',
            'deep/.htaccess' => 'SetHandler fcgi:bob' }],
    'another in capitals' => [
        'capital', 'SetHandler fcgi:@RUN@/ALICE.sock', 'i.x'],
);

# The folder of an attack: the server's configuration is for each that begins
# with its place.
sub where {
    my ($place, $name) = @_;
    return $place . '_' . lc $name =~ s/\W+/-/gr;
}

sub files_of {
    my ($table) = @_;
    my %files = (htpasswd => $HTPASSWD, 'all.txt' => '');
    for my $name (keys %$table) {
        my ($place, $htaccess, undef, $more) = @{ $table->{$name} };
        my $where = where($place, $name);
        my %here = ('i.x' => 'source', '.htaccess' => $htaccess,
                    $more ? %$more : ());
        $files{"$where/$_"} = $here{$_} =~ s/WHERE/$where/gr for keys %here;
    }
    return \%files;
}

my $CAPITAL = FcgiApp->start(sub {
    my ($c) = @_;
    $c->read_request(5) or return;
    $c->reply("Content-Type: text/plain\r\n\r\ncapital");
}, transport => 'unix', socket => "$run/ALICE.sock");

# All of bob's addresses are named here, each in its own way: that permits
# nothing to alice.
my $ELSEWHERE = <<'EOC';
FcgiBackend bob @RUN@/bob.sock max=20
<Location /nowhere>
  SetHandler fcgi:@RUN@/ALICE.sock
</Location>
<VirtualHost *>
  ServerName elsewhere
  SetHandler fcgi:bob
  AddHandler fcgi:bob .bob
</VirtualHost>
EOC

sub sections {
    my ($own) = @_;
    my $text = '';
    for my $place (sort keys %$own) {
        $text .= "<DirectoryMatch \"^\@DOCROOT@/${place}_\">\n"
            . "<FilesMatch \"\\.x\$\">\n$own->{$place}\n</FilesMatch>\n"
            . "</DirectoryMatch>\n";
    }
    return $text;
}

my $SERVER = <<'EOC' . sections(\%own) . $ELSEWHERE . <<'EOD';
SetEnvIf Host "(.*)" BY_HOST=$1
SetEnvIf Request_URI ^ POOL=alice
RewriteEngine On
RewriteCond %{HTTP_HOST} =bob
RewriteRule ^/rule_.*\.x$ - [H=fcgi:bob]
<DirectoryMatch "^@DOCROOT@/match_(?<user>)">
</DirectoryMatch>
<Directory @DOCROOT@>
  AllowOverride All
  AuthBasicProvider file
</Directory>
<DirectoryMatch "^@DOCROOT@/capital_">
  SetHandler fcgi:@RUN@/alice.sock
</DirectoryMatch>
EOC
<VirtualHost _default_:@PORT@>
  ServerName alice
  RewriteEngine On
  RewriteOptions Inherit
</VirtualHost>
EOD

subtest 'attacks' => sub {
    my $httpd = Httpd->start(
        modules => \@MODULES, files => files_of(\%attacks),
        vars => { RUN => $run }, config => $SERVER);
    for my $name (sort keys %attacks) {
        my ($place, undef, $url) = @{ $attacks{$name} };
        my @before = map { $_->connections } $app{bob}, $CAPITAL;
        my $answer = get($httpd, '/' . where($place, $name) . "/$url",
                         @{ $fields{$place} // [] });
        my @after = map { $_->connections } $app{bob}, $CAPITAL;
        is("@after", "@before", "$name: nobody connects to bob")
            or diag $answer->raw;
        isnt(who($answer), $_, "nor is the answer $_\'s")
            for qw(bob capital);
        unlike($answer->body, qr/source/, 'nor the file') or diag $answer->raw;
        ok($answer->status >= 404
           || $answer->body =~ /^(?:alice|.*error\ occurred
                                 |.*Internal\ Server\ Error)/sx,
           'refused, or her own') or diag $answer->raw;
    }
    unlike($httpd->error_log, qr/FCGI(?!13|26)\d\d: /,
           'each refusal is FCGI13') or diag $httpd->error_log;
    $httpd->leave;
};

Httpd::ok_left();
done_testing;
